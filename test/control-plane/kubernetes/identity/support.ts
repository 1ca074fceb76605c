import { PodLookup } from '../../../../control-plane/kubernetes/identity/pod-lookup.ts';
import {
  ServiceAccountTokens,
  type ServiceAccountTokensOptions,
} from '../../../../control-plane/kubernetes/identity/service-account-tokens.ts';
import { POD_NAME, POD_UID } from '../../../../control-plane/kubernetes/identity/token-review.ts';
import { slimPod } from '../../../../control-plane/kubernetes/source/slim.ts';
import type { PeerIdentity } from '../../../../control-plane/server/peer-identity.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import { spiffeId } from '../../../../mesh/spiffe-id.ts';
import type { JsonObject } from '../../../../policy/types.ts';
import { memoryLog } from '../support.ts';

export const ADDRESS = '10.0.0.7';

export interface PodShape {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly serviceAccount: string;
  readonly addresses: readonly string[];
  readonly phase: string;
  readonly hostNetwork: boolean;
}

export const POD: PodShape = {
  namespace: 'shop',
  name: 'orders-1',
  uid: 'uid-1',
  serviceAccount: 'orders',
  addresses: [ADDRESS, 'fd00::7'],
  phase: 'Running',
  hostNetwork: false,
};

export const podObject = (shape: Partial<PodShape> = {}): JsonObject => {
  const { namespace, name, uid, serviceAccount, addresses, phase, hostNetwork } = { ...POD, ...shape };
  const ports = [{ name: 'http', containerPort: 8080 }, { containerPort: 9090 }];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, uid, labels: { app: 'orders', version: '2' } },
    spec: { serviceAccountName: serviceAccount, hostNetwork, containers: [{ name: 'app', ports }] },
    status: { phase, podIPs: addresses.map((ip) => ({ ip })) },
  };
};

/** A cluster of pods; what the cache knows may be behind what the API says. */
export class FakePods {
  readonly asked: string[] = [];
  stored: JsonObject[] = [];
  cached: JsonObject[] = [];
  fault: KubernetesError | null = null;

  readonly get = async (
    _type: unknown,
    { namespace, name }: { namespace: string; name: string },
  ): Promise<JsonObject> => {
    this.asked.push(`${namespace}/${name}`);
    if (this.fault !== null) throw this.fault;
    const pod = find(this.stored, namespace, name);
    if (pod === null) throw new KubernetesError('NotFound', 404, 'no such pod');
    return pod;
  };

  lookup(): PodLookup {
    return new PodLookup({
      api: { get: this.get },
      pods: (namespace, name) => {
        const pod = find(this.cached, namespace, name);
        return pod === null ? null : slimPod(pod);
      },
    });
  }
}

const find = (pods: readonly JsonObject[], namespace: string, name: string): JsonObject | null =>
  pods.find(({ metadata }) => {
    const meta = metadata as { namespace?: string; name?: string };
    return meta.namespace === namespace && meta.name === name;
  }) ?? null;

export interface ReviewShape {
  readonly authenticated: unknown;
  readonly audiences: unknown;
  readonly username: unknown;
  readonly podName: unknown;
  readonly podUid: unknown;
}

export const REVIEW: ReviewShape = {
  authenticated: true,
  audiences: ['postern'],
  username: 'system:serviceaccount:shop:orders',
  podName: ['orders-1'],
  podUid: ['uid-1'],
};

export const reviewObject = (shape: Partial<ReviewShape> = {}): JsonObject => {
  const { authenticated, audiences, username, podName, podUid } = { ...REVIEW, ...shape };
  const user = { username, extra: { [POD_NAME]: podName, [POD_UID]: podUid } };
  return JSON.parse(JSON.stringify({ status: { authenticated, audiences, user } }));
};

/** A token as the kubelet projects it; nobody checks its signature here, which makes it another one. */
export const tokenOf = (shape: Partial<PodShape> = {}, signature = 'c2lnbmF0dXJl'): string => {
  const { namespace, name, uid, serviceAccount } = { ...POD, ...shape };
  const claims = {
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    'kubernetes.io': { namespace, pod: { name, uid } },
  };
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none' })}.${part(claims)}.${signature}`;
};

export const peerOf = (serviceAccount = 'orders', namespace = 'shop'): PeerIdentity => ({
  spiffeId: spiffeId('cluster.local', namespace, serviceAccount),
  serial: '1',
  notAfter: 0,
  chain: [],
});

export function newTokens(review: () => JsonObject | Promise<JsonObject> = () => reviewObject()) {
  const pods = new FakePods();
  pods.stored = [podObject()];
  pods.cached = [podObject()];
  const log = memoryLog();
  const clock = { now: 0 };
  const reviews: JsonObject[] = [];
  const create: ServiceAccountTokensOptions['api']['create'] = async (_type, _namespace, object) => {
    reviews.push(object);
    return await review();
  };
  const tokens = new ServiceAccountTokens({
    api: { create },
    pods: pods.lookup(),
    audience: 'postern',
    log,
    now: () => clock.now,
  });
  const redeem = (options: { token?: string; peerAddress?: string; peer?: PeerIdentity | null } = {}) =>
    tokens.redeem(options.token ?? tokenOf(), {
      publicKeyHash: 'hash',
      peerAddress: options.peerAddress ?? ADDRESS,
      peer: options.peer ?? null,
    });
  return { redeem, pods, log, clock, reviews };
}
