import { WEBHOOK_CONFIGURATION } from '../../control-plane/kubernetes/leader/webhook-bundles.ts';
import { objectsIn } from '../../kubernetes/injection/pod.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { check, type Facts, listed, type Objects, type Report } from './facts.ts';
import { nameOf, namespaceOf, placeOf } from './pods.ts';
import { meshFacts } from './settings.ts';

/** Whether the API server can call us, and whom it calls. */
export const WEBHOOK_CHECKS = [
  check('webhook-injection', 'after', (facts, report) => checkConfiguration(facts, facts.mutating, 'Mutating', report)),
  check('webhook-validation', 'after', (facts, report) =>
    checkConfiguration(facts, facts.validating, 'Validating', report),
  ),
];

function checkConfiguration(facts: Facts, objects: Objects, kind: 'Mutating' | 'Validating', report: Report): void {
  const title = `${kind}WebhookConfiguration ${WEBHOOK_CONFIGURATION}`;
  const configurations = report.need(objects, title);
  if (configurations === null) return;
  const configuration = configurations.find((one) => nameOf(one) === WEBHOOK_CONFIGURATION);
  if (configuration === undefined) {
    const consequence =
      kind === 'Mutating' ? 'no pod gets a sidecar' : 'policies are not checked when they are written';
    report.error(`${title} is missing: ${consequence}`, 'run postern install');
    return;
  }
  const webhooks = objectsIn(field(configuration, 'webhooks'));
  checkBundles(facts, title, webhooks, report);
  checkFailurePolicy(title, webhooks, report);
  const services = new Set(webhooks.map(serviceOf));
  for (const service of services) checkService(facts, title, service, report);
  if (report.findings.length === 0) report.ok(`${title} is answered, and trusts who answers`);
}

function checkBundles(facts: Facts, title: string, webhooks: readonly JsonObject[], report: Report): void {
  const bundles = webhooks.map((webhook) => {
    const text = asString(field(asObject(field(webhook, 'clientConfig')), 'caBundle')) ?? '';
    return Buffer.from(text, 'base64').toString('utf8');
  });
  const remedy = 'the leading control plane writes it: see its log, and postern check for the lease';
  if (bundles.some((bundle) => bundle === '')) {
    report.error(`${title} has no caBundle: the API server cannot call it, and pods and policies are refused`, remedy);
    return;
  }
  const roots = publishedRoots(facts);
  if (roots !== null && bundles.some((bundle) => bundle !== roots)) {
    report.error(`${title} has another caBundle than the roots of the mesh`, remedy);
  }
}

/** As published in the control plane's own namespace; null where they are not. */
export function publishedRoots(facts: Facts): string | null {
  const { configMap, key } = meshFacts(facts).trustBundle;
  const bundles = facts.trustBundles.ok ? facts.trustBundles.value : [];
  const own = bundles.find((one) => namespaceOf(one) === facts.namespace && nameOf(one) === configMap);
  return asString(field(asObject(field(own ?? null, 'data')), key));
}

function checkFailurePolicy(title: string, webhooks: readonly JsonObject[], report: Report): void {
  const ignoring = webhooks.filter((webhook) => field(webhook, 'failurePolicy') === 'Ignore');
  if (ignoring.length === 0) return;
  const names = ignoring.map((webhook) => asString(field(webhook, 'name')) ?? '');
  report.warning(
    `${title}: failurePolicy is Ignore (${listed(names)}), so that pods start without sidecar, or policies go unchecked, while the control plane is away`,
    'set it to Fail, unless that is what you want',
  );
}

/** `namespace/name` of the service that a webhook is called by; empty where it has a URL. */
function serviceOf(webhook: JsonObject): string {
  const service = asObject(field(asObject(field(webhook, 'clientConfig')), 'service'));
  return service === null
    ? ''
    : `${asString(field(service, 'namespace')) ?? ''}/${asString(field(service, 'name')) ?? ''}`;
}

function checkService(facts: Facts, title: string, service: string, report: Report): void {
  if (service === '') return;
  const services = report.need(facts.services, 'the services');
  const slices = report.need(facts.endpointSlices, `the endpoints in ${facts.namespace}`);
  if (services === null || slices === null) return;
  if (!services.some((one) => placeOf(one) === service)) {
    report.error(`${title} names the service ${service}, which does not exist`, 'run postern install');
    return;
  }
  const name = service.slice(service.indexOf('/') + 1);
  const ready = slices
    .filter((slice) => namespaceOf(slice) === service.slice(0, service.indexOf('/')) && ownerOf(slice) === name)
    .flatMap((slice) => objectsIn(field(slice, 'endpoints')))
    .filter((endpoint) => field(asObject(field(endpoint, 'conditions')), 'ready') !== false);
  if (ready.length > 0) return;
  report.error(
    `${title} names the service ${service}, which has no ready endpoint: pods and policies are refused`,
    `see kubectl -n ${facts.namespace} get pods: the control plane does not run`,
  );
}

function ownerOf(slice: JsonObject): string | null {
  const labels = asObject(field(asObject(field(slice, 'metadata')), 'labels'));
  return asString(field(labels, 'kubernetes.io/service-name'));
}
