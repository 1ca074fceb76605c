import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressSet } from '../../../../control-plane/addresses.ts';
import { PodAdmission } from '../../../../control-plane/kubernetes/identity/pod-admission.ts';
import type { WorkloadAdmission } from '../../../../control-plane/platform.ts';
import { JoinTokenAdmission } from '../../../../control-plane/server/join-token-admission.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import type { WorkloadRegistration } from '../../../../mesh/push.ts';
import { spiffeId } from '../../../../mesh/spiffe-id.ts';
import { ADDRESS, FakePods, type PodShape, podObject } from './support.ts';

const IDENTITY = spiffeId('cluster.local', 'shop', 'orders');
const WORKLOAD: WorkloadRegistration = {
  namespace: 'shop',
  name: 'orders-1',
  serviceAccount: 'orders',
  labels: {},
  addresses: [],
  tunnel: null,
  ports: {},
};
const refusal = (status: number, reason: string) => expect.objectContaining({ status, reason });

function setUp(options: { readonly pod?: Partial<PodShape> | null; readonly fallback?: WorkloadAdmission } = {}) {
  const pods = new FakePods();
  pods.stored = options.pod === null ? [] : [podObject(options.pod ?? {})];
  const admission = new PodAdmission({ pods: pods.lookup(), fallback: options.fallback ?? null });
  const admit = (workload: Partial<WorkloadRegistration> = {}, peerAddress = ADDRESS, identity = IDENTITY) =>
    admission.admit({ ...WORKLOAD, ...workload }, { identity, peerAddress });
  return { admit, pods };
}

describe('a pod that registers', () => {
  it('is known by what the API server says of it, whatever its sidecar says', async () => {
    const { admit } = setUp();
    const claims = { labels: { app: 'payments' }, ports: { http: 1 }, addresses: [ADDRESS] };
    expect(await admit({ ...claims, tunnel: { address: ADDRESS, port: 15008 } })).toEqual({
      identity: IDENTITY.uri,
      isPod: true,
      podUid: 'uid-1',
      workload: {
        ...WORKLOAD,
        labels: { app: 'orders', version: '2' },
        addresses: [ADDRESS, 'fd00::7'],
        ports: { http: 8080 },
      },
    });
  });

  it('may come from any of its addresses', async () => {
    expect((await setUp().admit({}, 'fd00::7')).identity).toBe(IDENTITY.uri);
  });

  it.each<[string, Partial<WorkloadRegistration>, string]>([
    ['another service account', { serviceAccount: 'admin' }, 'identity-mismatch'],
    ['another namespace', { namespace: 'other' }, 'identity-mismatch'],
    ['a name that no pod has', { name: 'orders-2' }, 'pod-mismatch'],
    ['an address that is not its own', { addresses: [ADDRESS, '10.0.0.8'] }, 'address-not-allowed'],
    ['a tunnel elsewhere', { tunnel: { address: '10.0.0.8', port: 15008 } }, 'address-not-allowed'],
    ['a tunnel on another port', { tunnel: { address: ADDRESS, port: 8080 } }, 'address-not-allowed'],
  ])('is refused where it claims %s', async (_, claim, reason) => {
    await expect(setUp().admit(claim)).rejects.toEqual(refusal(403, reason));
  });

  it.each<[string, Partial<PodShape>, number, string]>([
    ['runs as another service account', { serviceAccount: 'admin' }, 403, 'pod-mismatch'],
    ['has finished', { phase: 'Succeeded' }, 403, 'pod-mismatch'],
    ['is on the node’s network', { hostNetwork: true }, 403, 'pod-mismatch'],
    ['has another address', { addresses: ['10.0.0.8'] }, 403, 'address-not-allowed'],
    ['has no address yet', { addresses: [] }, 503, 'pod-unknown'],
  ])('is refused where the pod %s', async (_, pod, status, reason) => {
    await expect(setUp({ pod }).admit()).rejects.toEqual(refusal(status, reason));
  });

  it('is to try again while the API server cannot be asked', async () => {
    const { admit, pods } = setUp();
    pods.fault = new KubernetesError('Unreachable', 0, 'no answer');
    await expect(admit()).rejects.toEqual(refusal(503, 'pod-unknown'));
    pods.cached = [podObject()];
    expect((await admit()).identity).toBe(IDENTITY.uri);
  });

  it('is let in with nothing wrong and with nothing else', async () => {
    const claims = fc.record(
      {
        namespace: fc.constant('other'),
        name: fc.constantFrom('orders-2', 'ORDERS-1'),
        serviceAccount: fc.constantFrom('admin', ''),
        addresses: fc.constantFrom(['10.0.0.8'], [ADDRESS, 'fd00::8']),
        tunnel: fc.constantFrom({ address: '10.0.0.8', port: 15008 }, { address: ADDRESS, port: 80 }),
      },
      { requiredKeys: [] },
    );
    const shapes = fc.record(
      {
        serviceAccount: fc.constantFrom('admin', ''),
        addresses: fc.constantFrom([], ['10.0.0.8']),
        phase: fc.constantFrom('Succeeded', 'Failed'),
        hostNetwork: fc.constant(true),
        name: fc.constant('orders-9'),
      },
      { requiredKeys: [] },
    );
    const callers = fc.constantFrom(ADDRESS, '10.0.0.9', '127.0.0.1');
    await fc.assert(
      fc.asyncProperty(claims, shapes, callers, fc.boolean(), async (claim, pod, caller, cached) => {
        const { admit, pods } = setUp({ pod });
        if (cached) pods.cached = pods.stored;
        const isRight = Object.keys(claim).length + Object.keys(pod).length === 0 && caller === ADDRESS;
        const admitted = await admit(claim, caller).then(
          () => true,
          () => false,
        );
        expect(admitted).toBe(isRight);
      }),
      { numRuns: 300 },
    );
  });
});

describe('a machine outside the cluster', () => {
  const bound = { app: 'legacy' };
  const fallback = (labels: readonly { readonly [key: string]: string }[] | null): WorkloadAdmission =>
    new JoinTokenAdmission({
      store: { labelsOf: () => labels },
      trustedAddresses: addressSet([]) ?? expect.unreachable(),
      requireLabels: true,
    });

  it('registers under a name that no pod has, with the labels of its join token', async () => {
    const { admit } = setUp({ pod: null, fallback: fallback([bound]) });
    expect((await admit({ name: 'vm-1', labels: bound }, '192.0.2.1')).workload).toMatchObject({
      name: 'vm-1',
      labels: bound,
      addresses: ['192.0.2.1'],
    });
    await expect(admit({ name: 'vm-1', labels: { app: 'payments' } })).rejects.toEqual(refusal(403, 'label-mismatch'));
  });

  it('is not what a pod can pose as, whose identity no join token with labels was made for', async () => {
    const { admit } = setUp({ fallback: fallback(null) });
    await expect(admit({ name: 'ghost', labels: { app: 'payments' } })).rejects.toEqual(refusal(403, 'label-mismatch'));
  });

  it('is not asked about where there is a pod of the name, or where that cannot be found out', async () => {
    const { admit, pods } = setUp({ pod: { addresses: ['10.0.0.8'] }, fallback: fallback([{}]) });
    await expect(admit()).rejects.toEqual(refusal(403, 'address-not-allowed'));
    pods.fault = new KubernetesError('Unreachable', 0, 'no answer');
    await expect(admit()).rejects.toEqual(refusal(503, 'pod-unknown'));
  });
});
