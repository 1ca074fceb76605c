import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Manifest } from '../../../../policy/types.ts';
import { podOf } from '../../registry/support.ts';
import { ADDRESS, type EntryShape, entryOf, machinesOf, SYSTEM } from './support.ts';

const LEGACY = { namespace: 'shop', serviceAccount: 'legacy' };
const NODE = podOf('proxy', ['10.0.0.250'], { namespace: 'other', spec: { hostNetwork: true } });
const POD = podOf('orders-1', ['10.0.0.7'], { namespace: 'other' });
const refusal = (status: number, reason: string) => expect.objectContaining({ status, reason });

/** What is said of an account with these entries, and of the caller. */
function judge(
  entries: readonly Manifest[],
  options: { readonly peer?: string; readonly account?: typeof LEGACY; readonly trusted?: readonly string[] } = {},
) {
  const { peer = ADDRESS, account = LEGACY, trusted = [] } = options;
  const machines = machinesOf(() => [POD, NODE, ...entries], trusted);
  const attempt = (work: () => unknown): unknown => {
    try {
      return work();
    } catch (error) {
      return error;
    }
  };
  return {
    renews: machines.hasOne(account, peer),
    joins: attempt(() => machines.requireOne(account, {}, peer)),
    named: attempt(() => machines.named('vm-1', account, peer)),
  };
}

describe('a machine outside of the cluster', () => {
  it('is who calls from the address of a WorkloadEntry of its account', () => {
    expect(judge([entryOf()])).toMatchObject({ renews: true, joins: undefined, named: { name: 'vm-1' } });
  });

  it('has the account default where its entry names none', () => {
    const account = { namespace: 'shop', serviceAccount: 'default' };
    expect(judge([entryOf({ serviceAccount: null })], { account })).toMatchObject({ renews: true, joins: undefined });
  });

  it.each<[string, Partial<EntryShape>]>([
    ['is of another account', { serviceAccount: 'admin' }],
    ['is of another namespace', { namespace: 'other' }],
    ['has another address', { address: '192.0.2.2' }],
    ['says of no sidecar', { labels: { app: 'legacy' } }],
    ['has an address of loopback', { address: '127.0.0.1' }],
    ['has the address of a pod', { address: '10.0.0.7' }],
    ['has the address of a node', { address: '10.0.0.250' }],
  ])('is nobody whose entry %s', (_what, shape) => {
    const { address = ADDRESS } = shape;
    for (const peer of [ADDRESS, address]) {
      if (peer === '192.0.2.2') continue;
      const { renews, joins, named } = judge([entryOf(shape)], { peer });
      expect(renews).toBe(false);
      expect([joins, named]).toEqual([
        peer === '10.0.0.7' ? refusal(403, 'address-not-allowed') : refusal(503, 'entry-unknown'),
        refusal(403, shape.serviceAccount || shape.namespace ? 'entry-mismatch' : 'address-not-allowed'),
      ]);
    }
  });

  it('may be behind address translation where the control plane trusts its address, but never be a pod', () => {
    const trusted = ['192.0.2.0/24'];
    expect(judge([entryOf()], { peer: '198.51.100.9', trusted })).toMatchObject({ renews: true, joins: undefined });
    // The address of a node, since the way in leads through one.
    expect(judge([entryOf()], { peer: '10.0.0.250', trusted })).toMatchObject({ renews: true, joins: undefined });
    expect(judge([entryOf()], { peer: '10.0.0.7', trusted })).toEqual({
      renews: false,
      joins: refusal(403, 'address-not-allowed'),
      named: refusal(403, 'address-not-allowed'),
    });
  });

  it('has no name that a pod has', () => {
    const { named } = judge([entryOf(), podOf('vm-1', ['10.0.0.9'])]);
    expect(named).toEqual(refusal(403, 'entry-mismatch'));
  });

  it('is known anew after each change', () => {
    let manifests: readonly Manifest[] = [];
    const machines = machinesOf(() => manifests);
    expect(machines.hasOne(LEGACY, ADDRESS)).toBe(false);
    manifests = [entryOf()];
    expect(machines.hasOne(LEGACY, ADDRESS)).toBe(true);
    manifests = [entryOf(), podOf('late', [ADDRESS])];
    expect(machines.hasOne(LEGACY, ADDRESS)).toBe(false);
    manifests = [entryOf(), podOf('late', [ADDRESS], { status: { phase: 'Succeeded' } })];
    expect(machines.hasOne(LEGACY, ADDRESS)).toBe(true);
  });

  it('must have the labels that its token names', () => {
    const machines = machinesOf(() => [entryOf()]);
    expect(() => machines.requireOne(LEGACY, { app: 'legacy' }, ADDRESS)).not.toThrow();
    for (const labels of [{ app: 'payments' }, { app: 'legacy', tier: '1' }]) {
      expect(() => machines.requireOne(LEGACY, labels, ADDRESS)).toThrow(/with the labels of the join token/);
    }
  });

  it.each([SYSTEM, 'kube-system', 'kube-public', 'postern-system'])('has no identity in %s', (namespace) => {
    const account = { namespace, serviceAccount: 'legacy' };
    const { renews, joins } = judge([entryOf({ namespace })], { account });
    expect([renews, joins]).toEqual([false, refusal(403, 'identity-reserved')]);
  });

  it('is never at the address of a pod, whatever entries and trusted addresses there are', () => {
    const addresses = fc.constantFrom(ADDRESS, '10.0.0.7', '10.0.0.250', '127.0.0.1');
    const blocks = fc.subarray(['0.0.0.0/0', '192.0.2.0/24', '10.0.0.0/8']);
    fc.assert(
      fc.property(fc.array(addresses, { maxLength: 4 }), blocks, addresses, (ofEntries, trusted, peer) => {
        const entries = ofEntries.map((address, index) => entryOf({ address, name: `vm-${index}` }));
        const { renews } = judge(entries, { peer, trusted });
        const real = ofEntries.includes(ADDRESS);
        expect(renews).toBe(
          peer !== '10.0.0.7' &&
            real &&
            (peer === ADDRESS || trusted.includes('0.0.0.0/0') || trusted.includes('192.0.2.0/24')),
        );
      }),
    );
  });
});
