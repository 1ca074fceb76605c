import { asString, field } from '../json.ts';
import { isManifestKind, kindProblem, type ManifestKind, titleOf } from '../kinds.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject, Manifest, Problem } from '../types.ts';
import { validateAuthorizationPolicy } from './authorization-policy.ts';
import { type Finding, Findings } from './findings.ts';
import { validateMeshConfig } from './mesh-config.ts';
import { validateMetadata } from './metadata.ts';
import { validatePeerAuthentication } from './peer-authentication.ts';
import { validateRequestAuthentication } from './request-authentication.ts';
import { validateRevocation } from './revocation.ts';
import { validateService } from './service.ts';
import { validateServiceEntry } from './service-entry.ts';
import { validateWorkloadEntry } from './workload-entry.ts';

const VALIDATORS: { readonly [kind in ManifestKind]: (object: JsonObject, findings: Findings) => void } = {
  AuthorizationPolicy: validateAuthorizationPolicy,
  PeerAuthentication: validatePeerAuthentication,
  RequestAuthentication: validateRequestAuthentication,
  WorkloadEntry: validateWorkloadEntry,
  ServiceEntry: validateServiceEntry,
  Service: validateService,
  MeshConfig: validateMeshConfig,
  Revocation: validateRevocation,
};

/** Whether an object is admissible: it is where none of the findings is an error. Takes any JSON object and never throws. */
export function validateObject(object: JsonObject): readonly Finding[] {
  const findings = new Findings();
  const apiVersion = asString(field(object, 'apiVersion')) ?? '';
  const kind = asString(field(object, 'kind')) ?? '';
  const problem = kindProblem(apiVersion, kind);
  if (problem !== null || !isManifestKind(kind)) {
    findings.error(['kind'], problem ?? `unknown kind ${quoted(kind)}`);
    return findings.all;
  }
  validateMetadata(object, kind, findings);
  VALIDATORS[kind](object, findings);
  return findings.all;
}

/** The same for a manifest, with the place in its file. */
export function validateManifest(manifest: Manifest): Problem[] {
  return validateObject(manifest.object).map(({ path, part, severity, message }) => ({
    severity,
    message,
    location: manifest.locate(path, part),
    resource: titleOf(manifest),
  }));
}
