import { slimObject } from '../../control-plane/kubernetes/source/slim.ts';
import { pathText, selects, validateObject } from '../../policy/index.ts';
import { asString, field } from '../../policy/json.ts';
import { selectorLabels } from '../../policy/selection.ts';
import type { JsonObject } from '../../policy/types.ts';
import { counted } from '../counted.ts';
import { check, type Facts, listed, type Report } from './facts.ts';
import { isAlive, isInjected, labelsOf, namespaceOf, namespacesWithSidecars, placeOf } from './pods.ts';
import { rootNamespaceOf } from './settings.ts';

export const POLICY_CHECKS = [
  check('policies-valid', 'after', checkValid),
  check('policies-selecting', 'after', checkSelecting),
  check('policies-enforced', 'after', checkEnforced),
];

/** Kinds that select workloads. */
const SELECTING = ['AuthorizationPolicy', 'PeerAuthentication', 'RequestAuthentication'];

const titleOf = (object: JsonObject): string => `${asString(field(object, 'kind')) ?? ''} ${placeOf(object)}`;

/** What was written while the webhook was away, or before it was there. */
function checkValid(facts: Facts, report: Report): void {
  const policies = report.need(facts.policies, 'the policies');
  if (policies === null) return;
  for (const policy of policies) {
    const error = validateObject(slimObject(policy)).find(({ severity }) => severity === 'error');
    if (error === undefined) continue;
    const where = error.path.length === 0 ? '' : `${pathText(error.path)}: `;
    report.error(
      `${titleOf(policy)}: ${where}${error.message}`,
      'put it right: postern validate says the same of its file',
    );
  }
  if (report.findings.length === 0) report.ok(`${counted(policies.length, 'object')} of the mesh, all admissible`);
}

function checkSelecting(facts: Facts, report: Report): void {
  const policies = report.need(facts.policies, 'the policies');
  const pods = report.need(facts.pods, 'the pods');
  if (policies === null || pods === null) return;
  const rootNamespace = rootNamespaceOf(facts);
  const living = pods.filter(isAlive).map((pod) => ({ namespace: namespaceOf(pod), labels: labelsOf(pod) }));
  const idle = policies.filter(
    (policy) =>
      SELECTING.includes(asString(field(policy, 'kind')) ?? '') &&
      selectorLabels(policy).size > 0 &&
      !living.some((workload) => selects(policy, workload, rootNamespace)),
  );
  if (idle.length === 0) {
    report.ok('every policy with a selector selects a pod');
    return;
  }
  report.warning(
    `policies select no pod that runs: ${listed(idle.map(titleOf))}`,
    'compare spec.selector.matchLabels with kubectl get pods --show-labels',
  );
}

/** Policies are enforced by sidecars: where there is none, they are words. */
function checkEnforced(facts: Facts, report: Report): void {
  const policies = report.need(facts.policies, 'the policies');
  const pods = report.need(facts.pods, 'the pods');
  if (policies === null || pods === null) return;
  const rootNamespace = rootNamespaceOf(facts);
  const withSidecars = namespacesWithSidecars(facts);
  const withoutSidecar = pods.filter((pod) => isAlive(pod) && !isInjected(pod));
  const naked = policies.filter((policy) => {
    const namespace = namespaceOf(policy);
    if (!SELECTING.includes(asString(field(policy, 'kind')) ?? '') || namespace === rootNamespace) return false;
    if (!withSidecars.has(namespace)) return true;
    return withoutSidecar.some(
      (pod) =>
        selectorLabels(policy).size > 0 &&
        selects(policy, { namespace: namespaceOf(pod), labels: labelsOf(pod) }, rootNamespace),
    );
  });
  if (naked.length === 0) {
    report.ok('policies are enforced by the sidecars that they select');
    return;
  }
  report.warning(
    `policies are for pods without sidecar, where nobody enforces them: ${listed(naked.map(titleOf))}`,
    'label the namespace postern.dev/inject=enabled and restart its workloads',
  );
}
