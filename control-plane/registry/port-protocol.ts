/**
 * The application protocol of a service port, by Istio's rules: `appProtocol` first, else the port's name as `<protocol>[-<suffix>]`.
 * Null: undeclared, to be sniffed.
 */
const NAMED = ['http', 'http2', 'https', 'grpc', 'grpc-web', 'tls', 'tcp', 'mongo', 'mysql', 'redis'];

/** Kubernetes' standard values (KEP-3726). */
const KUBERNETES: { readonly [appProtocol: string]: string } = {
  'kubernetes.io/h2c': 'http2',
  'kubernetes.io/ws': 'http',
  'kubernetes.io/wss': 'https',
};

export function portProtocol(name: string, appProtocol: string | null): string | null {
  if (appProtocol !== null) {
    const declared = appProtocol.toLowerCase();
    return KUBERNETES[declared] ?? declared;
  }
  const lower = name.toLowerCase();
  if (lower === 'grpc-web' || lower.startsWith('grpc-web-')) return 'grpc-web';
  const [protocol = ''] = lower.split('-');
  return NAMED.includes(protocol) ? protocol : null;
}
