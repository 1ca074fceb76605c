import { asString, field } from '../../../policy/json.ts';
import { isManifestKind, KINDS } from '../../../policy/kinds.ts';
import type { JsonObject } from '../../../policy/types.ts';
import type { Finding } from '../../../policy/validate/findings.ts';
import { validateObject } from '../../../policy/validate/validate.ts';
import { ApiError } from '../../api-error.ts';
import { type AdmissionRequest, ALLOWED, findingText } from './admission-review.ts';
import type { Reviewed } from './webhook-server.ts';

export interface ValidateWebhookOptions {
  /** Names of the MeshConfigs that there are: a mesh has one. */
  readonly meshConfigs: () => readonly string[] | Promise<readonly string[]>;
}

/**
 * Answers `/validate`: what `postern validate` refuses is refused, in its words, with the path within the object; what it warns of is warned of.
 *
 * An update is refused only for errors that the object did not have before: one that came in earlier (by an older version, or while the webhook was
 * away) can still be labelled, freed of finalizers, and mended in steps.
 */
export function validateWebhook(options: ValidateWebhookOptions): (request: AdmissionRequest) => Promise<Reviewed> {
  return async (request) => {
    const { kind, operation, subResource, object, oldObject, name } = request;
    const isChange = operation === 'CREATE' || operation === 'UPDATE';
    if (!isChange || subResource !== '' || !isOurs(kind.group, kind.kind))
      return { outcome: 'allowed', answer: ALLOWED };
    if (object === null) throw new ApiError(400, 'bad-request', 'request.object is missing: there is nothing to check');
    const findings = [...validateObject(object)];
    if (kind.kind === 'MeshConfig' && operation === 'CREATE') {
      const others = (await options.meshConfigs()).filter((other) => other !== nameOf(object, name));
      if (others.length > 0) findings.push(secondMeshConfig(others[0] ?? ''));
    }
    const errors = findings.filter(({ severity }) => severity === 'error');
    const standing = operation === 'UPDATE' && oldObject !== null ? textsOf(validateObject(oldObject)) : null;
    const fresh = errors.filter((finding) => standing === null || !standing.has(findingText(finding)));
    const warnings = findings.filter((finding) => !fresh.includes(finding)).map(findingText);
    if (fresh.length === 0) return { outcome: 'allowed', answer: { ...ALLOWED, warnings } };
    const message = fresh.map(findingText).join('\n');
    const answer = { allowed: false, warnings, patch: null, refusal: { message, causes: fresh } };
    return { outcome: 'refused', answer };
  };
}

/** Services are Kubernetes' own: what means nothing to the mesh may well mean something to others. */
function isOurs(group: string, kind: string): boolean {
  if (!isManifestKind(kind) || group === '') return false;
  return KINDS[kind].some((version) => version.startsWith(`${group}/`));
}

function textsOf(findings: readonly Finding[]): ReadonlySet<string> {
  return new Set(findings.filter(({ severity }) => severity === 'error').map(findingText));
}

function nameOf(object: JsonObject, name: string): string {
  const metadata = field(object, 'metadata');
  return name !== '' ? name : (asString(field((metadata ?? null) as JsonObject | null, 'name')) ?? '');
}

function secondMeshConfig(other: string): Finding {
  return {
    path: ['metadata', 'name'],
    severity: 'error',
    message: `there can be one MeshConfig; ${other} stands already: change that one`,
  };
}
