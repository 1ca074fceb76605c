/** The mesh of the benchmark as manifests: JSON objects, which are YAML too. */

export const NAMESPACE = 'bench';
export const SERVICE = 'server';
/** The workload port that the Service names and the server's sidecar exposes. */
export const SERVICE_PORT = 8080;
export const SERVER_LABELS = { app: 'server', version: 'v1' };
export const CLIENT_LABELS = { app: 'client', version: 'v1' };

const POLICIES = 100;

export interface ManifestObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: { readonly [key: string]: unknown };
}

/** The port is declared `tcp`: nothing is to be sniffed. */
export function serviceManifest(): ManifestObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: SERVICE, namespace: NAMESPACE },
    spec: {
      selector: { app: SERVER_LABELS.app },
      ports: [{ name: 'tcp', port: SERVICE_PORT, targetPort: SERVICE_PORT, appProtocol: 'tcp' }],
    },
  };
}

/**
 * 100 AuthorizationPolicies as a mesh of some size has them: six select the server, of which exactly one (the last by name) lets the client in and
 * two must be seen not to deny it; the others belong to other workloads.
 */
export function policyManifests(): readonly ManifestObject[] {
  const selecting = [
    policy('deny-quarantine', 'DENY', [{ from: [{ source: { namespaces: ['quarantine'] } }] }]),
    policy('deny-debug-port', 'DENY', [{ to: [{ operation: { ports: ['9999'] } }] }]),
    policy('permit-batch', 'ALLOW', [{ from: [from(...numbered('batch', 20))] }]),
    policy('permit-monitoring', 'ALLOW', [{ from: [{ source: { namespaces: ['monitoring'] } }] }]),
    policy('permit-office', 'ALLOW', [{ from: [{ source: { ipBlocks: ['10.20.0.0/16', '10.30.0.0/16'] } }] }]),
    policy('serve-client', 'ALLOW', [
      { from: [from('client')], to: [{ operation: { ports: [String(SERVICE_PORT)] } }] },
    ]),
  ];
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
