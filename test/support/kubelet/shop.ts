import type { JsonObject, JsonValue } from '../../../policy/types.ts';

/* Objects of the namespace in which tests have their applications. */

export const SHOP = 'shop';
export const CONFIG = '/etc/postern/control-plane.yaml';

export const identityOf = (serviceAccount: string): string => `spiffe://cluster.local/ns/${SHOP}/sa/${serviceAccount}`;

export const namespace = (name: string, injected: boolean): JsonObject => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels: injected ? { 'postern.dev/inject': 'enabled' } : {} },
});

export const serviceAccount = (name: string): JsonObject => ({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: { name, namespace: SHOP },
});

/** In front of the pods with the label `app` of its name: port 80. */
export const service = (name: string): JsonObject => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: SHOP },
  spec: { selector: { app: name }, ports: [{ name: 'http', port: 80, targetPort: 'http' }] },
});

export const policy = (name: string, spec: { readonly [field: string]: JsonValue }): JsonObject => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name, namespace: SHOP },
  spec,
});

/** Nobody may ask for this path of the server but the client. */
export const onlyClient = (name: string, path: string, labels: { readonly [key: string]: string }): JsonObject =>
  policy(name, {
    selector: { matchLabels: labels },
    action: 'DENY',
    rules: [
      {
        from: [{ source: { notPrincipals: [`cluster.local/ns/${SHOP}/sa/client`] } }],
        to: [{ operation: { paths: [path] } }],
      },
    ],
  });

export const strict = (): JsonObject => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { name: 'default', namespace: SHOP },
  spec: { mtls: { mode: 'STRICT' } },
});

export const revocation = (name: string, account: string): JsonObject => ({
  apiVersion: 'postern.dev/v1',
  kind: 'Revocation',
  metadata: { name },
  spec: { spiffeId: identityOf(account), reason: 'a test' },
});
