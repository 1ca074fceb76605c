import type { PodFacts } from './pod-facts.ts';

/** What someone who is to be a pod has shown. */
export interface PodClaim {
  readonly namespace: string;
  readonly name: string;
  /** Null where what was shown does not name it. */
  readonly uid: string | null;
  readonly serviceAccount: string;
  /** Canonical address of the TCP peer. */
  readonly peerAddress: string;
}

export type PodFault = {
  /** `early`: the API does not know the pod's addresses yet. */
  readonly kind: 'pod' | 'address' | 'early';
  readonly message: string;
};

/** Whether the one who claims it is that pod; null where all fits. */
export function faultOf(pod: PodFacts, claim: PodClaim): PodFault | null {
  const which = `the pod ${pod.namespace}/${pod.name}`;
  const refuse = (message: string): PodFault => ({ kind: 'pod', message });
  if (pod.namespace !== claim.namespace || pod.name !== claim.name) return refuse(`${which} is another one`);
  if (claim.uid !== null && pod.uid !== claim.uid) return refuse(`${which} is a later one of the same name`);
  if (pod.serviceAccount !== claim.serviceAccount) {
    return refuse(`${which} runs as service account ${pod.serviceAccount}, not ${claim.serviceAccount}`);
  }
  if (pod.finished) return refuse(`${which} has finished`);
  if (pod.hostNetwork) return refuse(`${which} is on the node's network, where an address proves nothing`);
  if (pod.addresses.length === 0) {
    return { kind: 'early', message: `the API server does not know the address of ${which} yet: try again` };
  }
  if (pod.addresses.includes(claim.peerAddress)) return null;
  const message = `${which} has the address ${pod.addresses.join(', ')}, and this connection comes from ${claim.peerAddress}: nothing may translate addresses between pods and the control plane`;
  return { kind: 'address', message };
}
