import { field } from '../json.ts';
import type { ManifestKind } from '../kinds.ts';
import { quoted } from '../quoted.ts';
import { annotationsOf, DRY_RUN_ANNOTATION, parseGoBool } from '../selection.ts';
import type { JsonObject } from '../types.ts';
import type { Findings } from './findings.ts';
import { isDnsLabel, isDnsSubdomain } from './names.ts';

const TOP_LEVEL = ['apiVersion', 'kind', 'metadata', 'spec', 'status'];
const ANNOTATIONS = ['metadata', 'annotations'];

/** Annotations of Istio's own machinery, which refuses them from outside: one rejects always, the others name the object something was made from. */
const INTERNAL_ANNOTATION = /^internal\.istio\.io\/(?:(?:webhook-)?always-reject|parent.*)$/;

/** RFC 3339, as Kubernetes writes times. */
const TIMESTAMP = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/;

/** What every kind has in common. Fields of metadata that mean nothing here are Kubernetes' own and may stand. */
export function validateMetadata(object: JsonObject, kind: ManifestKind, findings: Findings): void {
  findings.onlyFields(object, [], TOP_LEVEL);
  const metadata = findings.object(field(object, 'metadata'), ['metadata']);
  if (metadata === null) {
    findings.error(['metadata'], `${kind} needs metadata with a name`);
    return;
  }
  validateNames(metadata, kind, findings);
  findings.stringMap(field(metadata, 'labels'), ['metadata', 'labels']);
  findings.stringMap(field(metadata, 'annotations'), ANNOTATIONS);
  const created = findings.string(field(metadata, 'creationTimestamp'), ['metadata', 'creationTimestamp']);
  if (created !== null && (!TIMESTAMP.test(created) || Number.isNaN(Date.parse(created)))) {
    findings.error(['metadata', 'creationTimestamp'], 'creationTimestamp must be a time such as 2026-01-31T12:00:00Z');
  }
}

function validateNames(metadata: JsonObject, kind: ManifestKind, findings: Findings): void {
  const name = findings.requiredString(field(metadata, 'name'), ['metadata', 'name'], `${kind} needs a metadata.name`);
  if (name !== null && (kind === 'Service' ? !isDnsLabel(name) : !isDnsSubdomain(name))) {
    const form = kind === 'Service' ? 'at most 63' : 'dots, at most 253';
    findings.error(['metadata', 'name'], `name ${quoted(name)} must be of lower-case letters, digits, "-", ${form}`);
  }
  const namespace = findings.string(field(metadata, 'namespace'), ['metadata', 'namespace']);
  if (namespace !== null && !isDnsLabel(namespace)) {
    findings.error(
      ['metadata', 'namespace'],
      `namespace ${quoted(namespace)} must be of lower-case letters, digits and "-", at most 63`,
    );
  }
}

/** Annotations that change or forbid a policy. `mayDryRun`: whether this policy may be a dry run. */
export function validatePolicyAnnotations(object: JsonObject, mayDryRun: boolean, findings: Findings): void {
  for (const [name, value] of Object.entries(annotationsOf(object) ?? {})) {
    const path = [...ANNOTATIONS, name];
    if (INTERNAL_ANNOTATION.test(name)) findings.error(path, `${name} is reserved: remove it`);
    if (name !== DRY_RUN_ANNOTATION) continue;
    if (!mayDryRun) findings.error(path, `${name} is for AuthorizationPolicies with action ALLOW or DENY: remove it`);
    else if (parseGoBool(value) === null) findings.error(path, `${name} must be "true" or "false"`);
  }
}
