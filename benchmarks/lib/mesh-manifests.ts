/** The mesh of the benchmark as manifests: JSON objects, which are YAML too. */

export const NAMESPACE = 'bench';
export const SERVICE = 'server';
/** The workload ports that the Services name and the server's sidecar exposes. */
export const SERVICE_PORT = 8080;
export const H2_SERVICE_PORT = 8081;
export const SERVER_LABELS = { app: 'server', version: 'v1' };
export const CLIENT_LABELS = { app: 'client', version: 'v1' };

const POLICIES = 100;

export interface ManifestObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: { readonly [key: string]: unknown };
}

/** One port, declared `tcp`: nothing is to be sniffed. */
export function tcpServiceManifest(): ManifestObject {
  return serviceManifest([{ name: 'tcp', port: SERVICE_PORT }]);
}

export function httpServiceManifest(): ManifestObject {
  return serviceManifest([
    { name: 'http', port: SERVICE_PORT },
    { name: 'http2', port: H2_SERVICE_PORT },
  ]);
}

/** A port's name says its protocol. */
function serviceManifest(ports: readonly { readonly name: string; readonly port: number }[]): ManifestObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: SERVICE, namespace: NAMESPACE },
    spec: {
      selector: { app: SERVER_LABELS.app },
      ports: ports.map(({ name, port }) => ({ name, port, targetPort: port, appProtocol: name })),
    },
  };
}

const QUARANTINE = [{ from: [{ source: { namespaces: ['quarantine'] } }] }];
const OFFICE = [{ from: [{ source: { ipBlocks: ['10.20.0.0/16', '10.30.0.0/16'] } }] }];
const MONITORING = [{ from: [{ source: { namespaces: ['monitoring'] } }] }];

/**
 * 100 AuthorizationPolicies as a mesh of some size has them: six select the server, of which exactly one (the last by name) lets the client in and
 * two must be seen not to deny it; the others belong to other workloads.
 */
export function tcpPolicyManifests(): readonly ManifestObject[] {
  return withOthers([
    policy('deny-quarantine', 'DENY', QUARANTINE),
    policy('deny-debug-port', 'DENY', [{ to: [{ operation: { ports: ['9999'] } }] }]),
    policy('permit-batch', 'ALLOW', [{ from: [from(...numbered('batch', 20))] }]),
    policy('permit-monitoring', 'ALLOW', MONITORING),
    policy('permit-office', 'ALLOW', OFFICE),
    policy('serve-client', 'ALLOW', [
      { from: [from('client')], to: [{ operation: { ports: [String(SERVICE_PORT)] } }] },
    ]),
  ]);
}

/** The same for HTTP: ten select the server, by path, method, host and header; one of them refuses `/admin/`, one lets the client in. */
export function httpPolicyManifests(): readonly ManifestObject[] {
  return withOthers([
    policy('deny-admin', 'DENY', [{ to: [{ operation: { paths: ['/admin/*'] } }] }]),
    policy('deny-debug-header', 'DENY', [{ when: [{ key: 'request.headers[x-debug]', values: ['*'] }] }]),
    policy('deny-quarantine', 'DENY', QUARANTINE),
    policy('deny-writes-to-archive', 'DENY', [
      { to: [{ operation: { methods: ['POST', 'PUT', 'DELETE'], paths: ['/archive/{**}'] } }] },
    ]),
    policy('permit-batch', 'ALLOW', [
      { from: [from(...numbered('batch', 20))], to: [{ operation: { methods: ['POST'], paths: ['/jobs/*'] } }] },
    ]),
    policy('permit-health', 'ALLOW', [{ to: [{ operation: { methods: ['GET'], paths: ['/healthz', '/readyz'] } }] }]),
    policy('permit-monitoring', 'ALLOW', MONITORING),
    policy('permit-office', 'ALLOW', OFFICE),
    policy('permit-partners', 'ALLOW', [
      { from: [from(...numbered('partner', 10))], to: [{ operation: { hosts: ['partners.example'] } }] },
    ]),
    policy('serve-client', 'ALLOW', [
      { from: [from('client')], to: [{ operation: { methods: ['GET', 'POST'], paths: ['/*'] } }] },
    ]),
  ]);
}

function withOthers(selecting: readonly ManifestObject[]): readonly ManifestObject[] {
  const others = Array.from({ length: POLICIES - selecting.length }, (_, index) =>
    policy(
      `other-${index}`,
      index % 3 === 0 ? 'DENY' : 'ALLOW',
      [{ from: [from(...numbered(`caller-${index}`, 3))] }],
      `workload-${index}`,
    ),
  );
  return [...selecting, ...others];
}

function policy(
  name: string,
  action: 'ALLOW' | 'DENY',
  rules: readonly object[],
  app: string = SERVER_LABELS.app,
): ManifestObject {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace: NAMESPACE },
    spec: { selector: { matchLabels: { app } }, action, rules },
  };
}

/** A `from` entry that names service accounts of this namespace by principal. */
function from(...serviceAccounts: readonly string[]): object {
  return {
    source: { principals: serviceAccounts.map((account) => `cluster.local/ns/${NAMESPACE}/sa/${account}`) },
  };
}

function numbered(prefix: string, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
}
