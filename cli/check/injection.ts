import { annotationsOf, objectsIn } from '../../kubernetes/injection/pod.ts';
import { selectPod } from '../../kubernetes/injection/selection.ts';
import { INJECTED } from '../../kubernetes/injection/types.ts';
import { whyNotReady } from '../../kubernetes/install/wait.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { Findings } from '../../policy/validate/findings.ts';
import { counted } from '../counted.ts';
import { check, type Facts, listed, type Report } from './facts.ts';
import {
  injectionOf,
  isAlive,
  isInjected,
  labelsOf,
  nameOf,
  namespaceOf,
  namespacesWithSidecars,
  placeOf,
} from './pods.ts';
import { type MeshFacts, meshFacts } from './settings.ts';
import { publishedRoots } from './webhooks.ts';

/** Pods and their sidecars. */
export const INJECTION_CHECKS = [
  check('trust-bundles', 'after', checkTrustBundles),
  check('sidecars-missing', 'after', checkMissing),
  check('sidecars-versions', 'after', checkVersions),
  check('sidecars-ready', 'after', checkReady),
  check('pod-security', 'always', checkPodSecurity),
];

/** Namespaces whose label says that their pods get sidecars, and those in which pods have some. */
function namespacesInUse(facts: Facts, namespaces: readonly JsonObject[]): ReadonlySet<string> {
  const settings = meshFacts(facts);
  return new Set([
    ...namespacesWithSidecars(facts),
    ...namespaces.filter((namespace) => isEnabled(namespace, settings)).map(nameOf),
  ]);
}

function isEnabled(namespace: JsonObject, { understandIstioLabels }: MeshFacts): boolean {
  const labels = labelsOf(namespace);
  const own = labels[INJECTED.injectKey];
  return own === 'enabled' || (own === undefined && understandIstioLabels && labels['istio-injection'] === 'enabled');
}

function checkTrustBundles(facts: Facts, report: Report): void {
  const namespaces = report.need(facts.namespaces, 'the namespaces');
  const bundles = report.need(facts.trustBundles, "the ConfigMaps with the mesh's roots");
  if (namespaces === null || bundles === null) return;
  const { configMap, key } = meshFacts(facts).trustBundle;
  const roots = publishedRoots(facts);
  const remedy = 'the leading control plane publishes it: see its log';
  if (roots === null) {
    report.error(`ConfigMap ${facts.namespace}/${configMap} is missing: no root has been published`, remedy);
    return;
  }
  const published = new Map(
    bundles.map((one) => [namespaceOf(one), asString(field(asObject(field(one, 'data')), key))]),
  );
  const lacking = [...namespacesInUse(facts, namespaces)].filter((namespace) => published.get(namespace) !== roots);
  if (lacking.length === 0) {
    report.ok("the mesh's roots are published where sidecars need them");
    return;
  }
  report.error(
    `ConfigMap ${configMap} is missing or out of date in ${listed(lacking)}: pods do not start there`,
    remedy,
  );
}

function checkMissing(facts: Facts, report: Report): void {
  const namespaces = report.need(facts.namespaces, 'the namespaces');
  const pods = report.need(facts.pods, 'the pods');
  if (namespaces === null || pods === null) return;
  const settings = meshFacts(facts);
  const labels = new Map(namespaces.map((namespace) => [nameOf(namespace), labelsOf(namespace)]));
  const excluded = ['kube-system', 'kube-public', 'kube-node-lease', facts.namespace];
  const lacking = pods.filter((pod) => {
    if (isInjected(pod) || !isAlive(pod) || excluded.includes(namespaceOf(pod))) return false;
    return selectPod(pod, labels.get(namespaceOf(pod)) ?? {}, settings, new Findings()).inject;
  });
  if (lacking.length === 0) {
    report.ok('no pod lacks a sidecar that should have one');
    return;
  }
  const byAnnotation = lacking.filter((pod) => !isAskedByLabel(pod, labels.get(namespaceOf(pod)) ?? {}, settings));
  const asked = lacking.filter((pod) => !byAnnotation.includes(pod));
  if (asked.length > 0) {
    report.warning(
      `pods were made before they were to have a sidecar, and have none: ${listed(asked.map(placeOf))}`,
      'restart them: kubectl -n NAMESPACE rollout restart deployment,statefulset,daemonset',
    );
  }
  if (byAnnotation.length > 0) {
    report.warning(
      `pods ask for a sidecar by annotation alone, by which the API server does not select: ${listed(byAnnotation.map(placeOf))}`,
      `write ${INJECTED.injectKey}: enabled as a label, of the pod template or of the namespace`,
    );
  }
}

/** Whether the webhook hears of such a pod: selectors see labels only. */
function isAskedByLabel(
  pod: JsonObject,
  namespace: { readonly [label: string]: string },
  settings: MeshFacts,
): boolean {
  const own = labelsOf(pod);
  const words = [own[INJECTED.injectKey], namespace[INJECTED.injectKey]];
  if (words.includes('enabled')) return true;
  return (
    settings.understandIstioLabels &&
    (own['sidecar.istio.io/inject'] === 'true' || namespace['istio-injection'] === 'enabled')
  );
}

function checkVersions(facts: Facts, report: Report): void {
  const pods = report.need(facts.pods, 'the pods');
  const { image } = meshFacts(facts);
  if (pods === null || image === null) return;
  const others = new Map<string, string[]>();
  for (const pod of pods) {
    if (!isInjected(pod) || !isAlive(pod) || annotationsOf(pod).has('postern.dev/image')) continue;
    const has = injectionOf(pod)?.image ?? 'an unknown image';
    if (has !== image) others.set(has, [...(others.get(has) ?? []), placeOf(pod)]);
  }
  if (others.size === 0) {
    report.ok('every sidecar is of the image that new ones get');
    return;
  }
  for (const [other, places] of others) {
    report.warning(
      `pods have sidecars of ${other}, new ones get ${image}: ${listed(places)}`,
      'restart them when it suits: kubectl -n NAMESPACE rollout restart deployment,statefulset,daemonset',
    );
  }
}

function checkReady(facts: Facts, report: Report): void {
  const pods = report.need(facts.pods, 'the pods');
  if (pods === null) return;
  let count = 0;
  for (const pod of pods.filter((one) => isInjected(one) && isAlive(one))) {
    count += 1;
    const fault = sidecarFault(pod);
    if (fault === null) continue;
    report.error(
      `pod ${placeOf(pod)} is not ready: ${fault}`,
      `see kubectl -n ${namespaceOf(pod)} describe pod ${nameOf(pod)}, and logs -c ${INJECTED.sidecar}`,
    );
  }
  if (report.findings.length === 0)
    report.ok(count === 0 ? 'there are no sidecars yet' : `${counted(count, 'sidecar')}, all ready`);
}

/** Null where what we have put into the pod is ready; the application's own troubles are not ours. */
function sidecarFault(pod: JsonObject): string | null {
  const status = asObject(field(pod, 'status'));
  const statuses = ['initContainerStatuses', 'containerStatuses'].flatMap((key) => objectsIn(field(status, key)));
  const sidecar = statuses.find((one) => field(one, 'name') === INJECTED.sidecar);
  if (sidecar !== undefined && field(sidecar, 'ready') === true) return null;
  return whyNotReady(pod) ?? (sidecar === undefined ? null : `container ${INJECTED.sidecar} is not ready`);
}

/** The init container needs NET_ADMIN, which neither of these levels admits. */
const REFUSING = ['restricted', 'baseline'];
const ENFORCE = 'pod-security.kubernetes.io/enforce';

function checkPodSecurity(facts: Facts, report: Report): void {
  const namespaces = report.need(facts.namespaces, 'the namespaces');
  if (namespaces === null) return;
  const settings = meshFacts(facts);
  const refusing = namespaces.filter(
    (one) => isEnabled(one, settings) && REFUSING.includes(labelsOf(one)[ENFORCE] ?? ''),
  );
  if (refusing.length === 0) {
    report.ok('no namespace of the mesh refuses what redirection needs');
    return;
  }
  report.error(
    `namespaces enforce a pod security level that refuses ${INJECTED.initContainer}, which needs NET_ADMIN: ${listed(refusing.map(nameOf))}`,
    `set ${ENFORCE}=privileged there (warn and audit may stay), and hold workloads to restricted by other means`,
  );
}
