import { messageOf } from '../../mesh/errors.ts';
import type { PolicyResource } from '../../mesh/resources.ts';
import { compileAuthentication } from '../../policy/authentication.ts';
import { compilePolicies } from '../../policy/authorization.ts';
import { readJwtRules } from '../../policy/tokens/jwt-rule.ts';
import type { JsonObject, PolicyMesh, PolicyWorkload } from '../../policy/types.ts';
import { readRoot } from '../native/x509.ts';

/** Why a policy cannot be enforced; null where it can. The control plane has validated it already; here it is enough, and cheaper, to compile it. */
export function checkPolicy(policy: PolicyResource, { namespace, labels }: PolicyWorkload): string | null {
  const mesh: PolicyMesh = {
    trustDomain: 'cluster.local',
    trustDomainAliases: [],
    rootNamespace: 'istio-system',
    defaultAction: 'ALLOW',
    pathNormalization: 'BASE',
    extensionProviders: [],
  };
  try {
    if (policy.kind === 'RequestAuthentication') {
      readJwtRules(policy.object as JsonObject);
      return null;
    }
    const compile = policy.kind === 'AuthorizationPolicy' ? compilePolicies : compileAuthentication;
    compile([policy.object as JsonObject], { namespace, labels }, mesh);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

/** Why a root cannot be trusted; null where it can. */
export function checkRoot(pem: string): string | null {
  const root = readRoot(pem);
  return 'reason' in root ? root.reason : null;
}
