/** What the sidecar must have before it is ready to serve; each says what is missing in words for an operator. */
export interface Readiness {
  readonly certificate: boolean;
  readonly resources: boolean;
  readonly listeners: boolean;
  readonly draining: boolean;
}

/** Empty: ready. */
export function missing({ certificate, resources, listeners, draining }: Readiness): string[] {
  if (draining) return ['the sidecar is draining'];
  return [
    ...(certificate ? [] : ['no valid certificate yet (control plane reachable? join token accepted?)']),
    ...(resources ? [] : ['no full push from the control plane has been applied yet']),
    ...(listeners ? [] : ['the data plane has not opened its listeners']),
  ];
}
