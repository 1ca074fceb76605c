/** What the sidecar must have before it is ready to serve; each says what is missing in words for an operator. */
export interface Readiness {
  readonly certificate: boolean;
  /** Why the last attempt gave no certificate. */
  readonly certificateFailure: string | null;
  readonly resources: boolean;
  readonly listeners: boolean;
  /** Inbound alone: the sidecar goes on for the application's own connections. */
  readonly draining: 'nothing' | 'inbound' | 'all';
}

/** Of a failure, which may be in another's words. */
const MAX_FAILURE = 400;

/** Empty: ready. */
export function missing(readiness: Readiness): string[] {
  const { certificate, certificateFailure, resources, listeners, draining } = readiness;
  if (draining === 'all') return ['the sidecar is draining'];
  if (draining === 'inbound') return ['the sidecar is draining what comes in'];
  const why = certificateFailure?.slice(0, MAX_FAILURE) ?? 'the control plane has not answered';
  return [
    ...(certificate ? [] : [`no valid certificate yet: ${why}`]),
    ...(resources ? [] : ['no full push from the control plane has been applied yet']),
    ...(listeners ? [] : ['the data plane has not opened its listeners']),
  ];
}
