import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PodAdmission } from '../../../../control-plane/kubernetes/identity/pod-admission.ts';
import { MachineAdmission } from '../../../../control-plane/kubernetes/joining/machine-admission.ts';
import type { WorkloadAdmission } from '../../../../control-plane/platform.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import type { WorkloadRegistration } from '../../../../mesh/push.ts';
import { spiffeId } from '../../../../mesh/spiffe-id.ts';
import type { Manifest } from '../../../../policy/types.ts';
import { podOf } from '../../registry/support.ts';
import { entryOf, machinesOf, ADDRESS as VM_ADDRESS } from '../joining/support.ts';
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

function setUp(options: { readonly pod?: Partial<PodShape> | null; readonly machines?: WorkloadAdmission } = {}) {
  const pods = new FakePods();
  pods.stored = options.pod === null ? [] : [podObject(options.pod ?? {})];
  const admission = new PodAdmission({
    pods: pods.lookup(),
    machines: options.machines ?? new MachineAdmission(machinesOf(() => [])),
  });
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
      isDeclared: true,
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
    ['a name that no pod has', { name: 'orders-2' }, 'entry-mismatch'],
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

describe('a machine outside of the cluster', () => {
  const machine = (...manifests: readonly Manifest[]) => new MachineAdmission(machinesOf(() => manifests));
  const identity = spiffeId('cluster.local', 'shop', 'legacy');
  const vm = { name: 'vm-1', serviceAccount: 'legacy', labels: { app: 'payments' }, ports: { http: 1 } };

  it('is known by what its WorkloadEntry says, whatever its sidecar says', async () => {
    const { admit } = setUp({ machines: machine(entryOf()) });
    const claim = { ...vm, addresses: [VM_ADDRESS], tunnel: { address: VM_ADDRESS, port: 15008 } };
    expect(await admit(claim, VM_ADDRESS, identity)).toEqual({
      identity: identity.uri,
      isDeclared: true,
      workload: {
        ...WORKLOAD,
        name: 'vm-1',
        serviceAccount: 'legacy',
        labels: { app: 'legacy', 'networking.istio.io/tunnel': 'http' },
        addresses: [VM_ADDRESS],
        ports: { http: 8080 },
      },
    });
  });

  it.each<[string, Partial<WorkloadRegistration>, string, string]>([
    ['of another account', { serviceAccount: 'admin' }, VM_ADDRESS, 'identity-mismatch'],
    ['of a name that no entry has', { name: 'vm-2' }, VM_ADDRESS, 'entry-mismatch'],
    ['at another address', {}, '192.0.2.9', 'address-not-allowed'],
    ['with another address', { addresses: [VM_ADDRESS, '10.0.0.8'] }, VM_ADDRESS, 'address-not-allowed'],
    ['with a tunnel elsewhere', { tunnel: { address: '10.0.0.8', port: 15008 } }, VM_ADDRESS, 'address-not-allowed'],
    ['with a tunnel on another port', { tunnel: { address: VM_ADDRESS, port: 1 } }, VM_ADDRESS, 'address-not-allowed'],
  ])('is refused %s', async (_, claim, peer, reason) => {
    const { admit } = setUp({ machines: machine(entryOf()) });
    await expect(admit({ ...vm, ...claim }, peer, identity)).rejects.toEqual(refusal(403, reason));
  });

  it('is not what a pod can pose as by the name of an entry of its own account', async () => {
    const { admit } = setUp({ machines: machine(entryOf({ serviceAccount: 'orders' })) });
    await expect(admit({ name: 'vm-1' })).rejects.toEqual(refusal(403, 'address-not-allowed'));
  });

  it('is not asked about where there is a pod of the name', async () => {
    const machines = machine(entryOf({ name: 'orders-1', serviceAccount: 'orders' }));
    const { admit } = setUp({ machines, pod: { addresses: ['10.0.0.8'] } });
    await expect(admit({}, VM_ADDRESS)).rejects.toEqual(refusal(403, 'address-not-allowed'));
  });

  it('is let in while the API server is away, as far as no pod of its name is known', async () => {
    const entry = entryOf({ name: 'orders-1', serviceAccount: 'orders' });
    const known: Manifest[] = [entry];
    const { admit, pods } = setUp({ machines: new MachineAdmission(machinesOf(() => [...known])) });
    pods.fault = new KubernetesError('Unreachable', 0, 'no answer');
    expect((await admit({}, VM_ADDRESS)).workload.addresses).toEqual([VM_ADDRESS]);
    known.push(podOf('orders-1', ['10.0.0.9']));
    await expect(admit({}, VM_ADDRESS)).rejects.toEqual(refusal(503, 'pod-unknown'));
  });
});
