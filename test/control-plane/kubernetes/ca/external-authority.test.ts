import { X509Certificate } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { AcknowledgementResult } from '../../../../control-plane/ca/rotation.ts';
import {
  ExternalAuthority,
  type ExternalAuthorityOptions,
} from '../../../../control-plane/kubernetes/ca/external-authority.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import { endsInRoot } from '../../../../mesh/x509/certificate.ts';
import { HOUR, newCsr, ORDERS, START } from '../../ca/support.ts';
import { memoryLog } from '../support.ts';
import { type ForeignCa, foreignCa, tlsSecret } from './foreign-ca.ts';
import { Bell, MAX_TTL, newCluster, openReplica, roundOf, SECRET, SLACK, STATE } from './support.ts';

const EXTERNAL = 'Secret postern-system/external-ca';
const DAY = 24 * HOUR;
const WAIT = 300_000;
const print = (pem: string): string => new X509Certificate(pem).fingerprint256;

function secretOf(root: ForeignCa, issuing = foreignCa(root)) {
  return tlsSecret({ 'tls.crt': issuing.pem, 'tls.key': issuing.keyPem, 'ca.crt': root.pem });
}

async function open(
  { objects, clock }: ReturnType<typeof newCluster>,
  options: Partial<ExternalAuthorityOptions> & { readonly leads?: boolean } = {},
) {
  const bell = new Bell();
  const log = memoryLog();
  /** What sidecars say of the roots that they are asked about. */
  const sidecars: { asked: (readonly string[])[]; answer: AcknowledgementResult } = {
    asked: [],
    answer: { connected: 1, missing: ['shop/orders-1'] },
  };
  const term = options.leads === false ? null : new AbortController().signal;
  const authority = await ExternalAuthority.open({
    api: objects,
    namespace: 'postern-system',
    secret: 'external-ca',
    trustDomain: 'cluster.local',
    clock: clock.read,
    term: () => term,
    awaitAcknowledgement: async (roots) => {
      sidecars.asked.push(roots);
      return sidecars.answer;
    },
    watches: [bell],
    log,
    pollMs: 3_600_000,
    settleMs: 0,
    acknowledgementWaitMs: WAIT,
    slackMs: SLACK,
    ...options,
  });
  onTestFinished(() => authority.close());
  const issuesUnder = (root: ForeignCa): boolean => {
    const { chain } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    return endsInRoot(chain, root.pem);
  };
  return { authority, log, sidecars, issuesUnder, round: () => roundOf(bell, objects, log) };
}

async function setUp() {
  const cluster = newCluster();
  const [first, second] = [foreignCa(null), foreignCa(null)];
  cluster.objects.put(EXTERNAL, secretOf(first));
  const leader = await open(cluster);
  const follower = await open(cluster, { leads: false });
  await leader.round();
  await follower.round();
  return { ...cluster, first, second, leader, follower };
}

describe('an external CA that is in use', () => {
  it('issues for every replica, and refuses the commands of a rotation', async () => {
    const { leader, follower, first } = await setUp();
    for (const one of [leader, follower]) {
      expect(one.issuesUnder(first)).toBe(true);
      expect(one.authority.roots.map(print)).toEqual([print(first.pem)]);
      for (const step of ['beginRotation', 'activateRotation', 'finishRotation'] as const) {
        expect(() => one.authority[step]()).toThrow(expect.objectContaining({ code: 'ERR_CA_EXTERNAL' }));
      }
    }
  });

  it('goes over to another intermediate of the same root at once', async () => {
    const { objects, leader, follower, first } = await setUp();
    const next = foreignCa(first);
    objects.put(EXTERNAL, secretOf(first, next));
    await follower.round();
    expect(follower.authority.issueWorkload({ csr: newCsr(), ...ORDERS }).chain).toContain(next.pem.trim());
    expect(follower.authority.roots.map(print)).toEqual([print(first.pem)]);
    expect(leader.sidecars.asked).toEqual([]);
  });

  it('announces a new root first, issues from it when all sidecars trust it, and drops the old one when its leaves are over', async () => {
    const { objects, clock, leader, follower, first, second } = await setUp();
    objects.put(EXTERNAL, secretOf(second));
    await follower.round();
    expect(follower.authority.roots.map(print)).toEqual([print(first.pem), print(second.pem)]);
    expect(follower.issuesUnder(first)).toBe(true);
    await leader.round();
    expect(leader.issuesUnder(first)).toBe(true);
    expect(leader.sidecars.asked.at(-1)?.map(print)).toEqual([print(first.pem), print(second.pem)]);
    expect(leader.authority.describe().rotation).toBe('begun');
    leader.sidecars.answer = { connected: 1, missing: [] };
    clock.now += 60_000;
    await leader.round();
    expect(leader.issuesUnder(second)).toBe(true);
    expect(leader.authority.roots.map(print)).toEqual([print(second.pem), print(first.pem)]);
    expect(follower.issuesUnder(first)).toBe(true);
    await follower.round();
    expect(follower.issuesUnder(second)).toBe(true);
    expect(follower.authority.describe().rotation).toBe('activated');
    clock.now += DAY + SLACK - 1;
    await leader.round();
    expect(leader.authority.roots).toHaveLength(2);
    clock.now += 2;
    await leader.round();
    await follower.round();
    expect(follower.authority.roots.map(print)).toEqual([print(second.pem)]);
  });

  it('does not ask before the announcement has settled', async () => {
    const cluster = newCluster();
    const [first, second] = [foreignCa(null), foreignCa(null)];
    cluster.objects.put(EXTERNAL, secretOf(first));
    const leader = await open(cluster, { settleMs: 30_000 });
    await leader.round();
    leader.sidecars.answer = { connected: 0, missing: [] };
    cluster.objects.put(EXTERNAL, secretOf(second));
    await leader.round();
    cluster.clock.now += 29_000;
    await leader.round();
    expect(leader.sidecars.asked).toEqual([]);
    expect(leader.issuesUnder(first)).toBe(true);
    cluster.clock.now += 1_000;
    await leader.round();
    expect(leader.issuesUnder(second)).toBe(true);
  });

  it('issues from the new root after a bounded wait although a sidecar has not confirmed it', async () => {
    const { objects, clock, leader, first, second } = await setUp();
    objects.put(EXTERNAL, secretOf(second));
    await leader.round();
    clock.now += WAIT - 1;
    await leader.round();
    expect(leader.issuesUnder(first)).toBe(true);
    clock.now += 1;
    await leader.round();
    expect(leader.issuesUnder(second)).toBe(true);
    expect(leader.log.lines).toContainEqual({ level: 'warn', text: expect.stringContaining('not every sidecar') });
  });

  it('does so after twice that wait where no leader says so', async () => {
    const { objects, clock, follower, first, second } = await setUp();
    objects.put(EXTERNAL, secretOf(second));
    await follower.round();
    clock.now += 2 * WAIT;
    await follower.round();
    expect(follower.issuesUnder(first)).toBe(true);
    clock.now += 1;
    await follower.round();
    expect(follower.issuesUnder(second)).toBe(true);
    expect(follower.authority.roots.map(print)).toContain(print(first.pem));
  });

  it('does not issue yet where a restarted control plane has only the new key, but shows itself with it', async () => {
    const cluster = await setUp();
    cluster.objects.put(EXTERNAL, secretOf(cluster.second));
    const restarted = await open(cluster, { leads: false });
    expect(() => restarted.issuesUnder(cluster.second)).toThrow(expect.objectContaining({ code: 'ERR_CA_WAITING' }));
    expect(restarted.authority.roots.map(print)).toEqual([print(cluster.first.pem), print(cluster.second.pem)]);
    const server = restarted.authority.issueServer({
      spiffeId: 'spiffe://cluster.local/ns/postern-system/sa/control-plane',
    });
    expect(endsInRoot(server.chain, cluster.second.pem)).toBe(true);
  });

  it.each([
    ['deleted', null],
    ['damaged', tlsSecret({ 'tls.crt': 'garbage', 'tls.key': 'garbage' })],
  ])('stays as it was read where the Secret is %s', async (_, object) => {
    const { objects, leader, first } = await setUp();
    objects.put(EXTERNAL, object);
    await leader.round();
    expect(leader.issuesUnder(first)).toBe(true);
    expect(leader.log.lines.filter(({ level }) => level === 'error')).toHaveLength(1);
    expect(objects.writes().filter((call) => call.includes('Secret'))).toEqual([]);
  });

  it('keeps its roots where the state is deleted, and the leader writes it again', async () => {
    const { objects, clock, leader, first, second } = await setUp();
    objects.put(EXTERNAL, secretOf(second));
    leader.sidecars.answer = { connected: 1, missing: [] };
    await leader.round();
    objects.put(STATE, null);
    clock.now += HOUR;
    await leader.round();
    expect(leader.authority.roots.map(print)).toEqual([print(second.pem), print(first.pem)]);
    expect(objects.peek(STATE)).not.toBeNull();
  });

  it('remembers the old root over a restart', async () => {
    const cluster = await setUp();
    cluster.objects.put(EXTERNAL, secretOf(cluster.second));
    cluster.leader.sidecars.answer = { connected: 1, missing: [] };
    await cluster.leader.round();
    const restarted = await open(cluster, { leads: false });
    expect(restarted.authority.roots.map(print)).toEqual([print(cluster.second.pem), print(cluster.first.pem)]);
    expect(restarted.issuesUnder(cluster.second)).toBe(true);
  });

  it('issues nothing beyond the last confirmation and the longest lifetime, nor beyond its own certificates', async () => {
    const cluster = newCluster();
    const root = foreignCa(null);
    cluster.objects.put(EXTERNAL, secretOf(root, foreignCa(root, { notAfter: START + 2 * HOUR })));
    const { authority, round } = await open(cluster);
    const issue = () => authority.issueWorkload({ csr: newCsr(), ...ORDERS, ttlSeconds: MAX_TTL }).notAfter;
    expect(issue()).toBe(START + 2 * HOUR);
    cluster.objects.put(EXTERNAL, secretOf(root));
    await round();
    cluster.objects.before = () => {
      throw new KubernetesError('Unreachable', 0, 'no answer');
    };
    cluster.clock.now += HOUR;
    await round();
    expect(issue()).toBe(START + DAY);
    cluster.clock.now = START + DAY;
    expect(issue).toThrow(expect.objectContaining({ code: 'ERR_CA_EXPIRED' }));
  });

  it.each([
    ['damaged', { data: { 'state.json': '{' } }],
    ['deleted', null],
  ])('does not count a state that is %s as a confirmation', async (_, object) => {
    const { objects, clock, follower } = await setUp();
    objects.put(STATE, object);
    clock.now += DAY;
    await follower.round();
    expect(() => follower.authority.issueWorkload({ csr: newCsr(), ...ORDERS })).toThrow(
      expect.objectContaining({ code: 'ERR_CA_EXPIRED' }),
    );
  });

  it('cannot be opened where the Secret is missing', async () => {
    await expect(open(newCluster())).rejects.toMatchObject({
      code: 'ERR_CA_EXTERNAL',
      message: expect.stringContaining('isCA'),
    });
  });
});

describe('a mesh that had a CA of its own and moves to an external one', () => {
  /** The leader of the old kind has run, and is gone. */
  async function moved() {
    const cluster = newCluster();
    const own = await openReplica(cluster.objects, cluster.clock);
    await own.round();
    const [ownRoot = ''] = own.authority.roots;
    own.authority.close();
    const external = foreignCa(null);
    cluster.objects.put(EXTERNAL, secretOf(external));
    return { ...cluster, ownRoot, external };
  }

  it('has its own root issue, for sidecars and servers, until every sidecar trusts the external one', async () => {
    const { ownRoot, external, ...cluster } = await moved();
    const leader = await open(cluster);
    await leader.round();
    expect(leader.authority.roots.map(print)).toEqual([ownRoot, external.pem].map(print));
    const { chain } = leader.authority.issueServer({ spiffeId: 'spiffe://cluster.local/ns/postern-system/sa/x' });
    expect(endsInRoot(chain, ownRoot)).toBe(true);
    expect(leader.issuesUnder({ ...external, pem: ownRoot })).toBe(true);
    leader.sidecars.answer = { connected: 1, missing: [] };
    await leader.round();
    await leader.round();
    expect(leader.issuesUnder(external)).toBe(true);
    expect(leader.authority.roots.map(print)).toEqual([external.pem, ownRoot].map(print));
    // One that starts now does not ask for the old key any more.
    cluster.objects.calls.length = 0;
    const late = await open(cluster, { leads: false });
    expect(late.issuesUnder(external)).toBe(true);
    expect(cluster.objects.calls).not.toContain(`get ${SECRET}`);
  });

  it.each<[string, (cluster: ReturnType<typeof newCluster>) => void]>([
    ['is gone', ({ objects }) => objects.put(SECRET, null)],
    [
      'may not be read',
      ({ objects }) => {
        objects.before = (_, key) => {
          if (key === SECRET) throw new KubernetesError('Forbidden', 403, 'secrets "postern-ca" is forbidden');
        };
      },
    ],
    [
      'is damaged',
      ({ objects }) => objects.put(SECRET, { apiVersion: 'v1', kind: 'Secret', data: { 'state.json': '' } }),
    ],
  ])('says what follows where its own Secret %s', async (_, spoil) => {
    const { ownRoot, ...cluster } = await moved();
    spoil(cluster);
    const { authority, log } = await open(cluster);
    expect(() => authority.issueWorkload({ csr: newCsr(), ...ORDERS })).toThrow(
      expect.objectContaining({ code: 'ERR_CA_WAITING' }),
    );
    expect(JSON.stringify(log.lines)).toMatch(/no certificates until the external root may issue/);
    expect(authority.roots.map(print)).toContain(print(ownRoot));
  });

  it('does not go back by itself: a control plane with the old settings refuses to start', async () => {
    const { ...cluster } = await moved();
    const leader = await open(cluster);
    leader.sidecars.answer = { connected: 1, missing: [] };
    for (let round = 0; round < 3; round++) await leader.round();
    await expect(openReplica(cluster.objects, cluster.clock)).rejects.toEqual(
      expect.objectContaining({
        code: 'ERR_CA_REPLACED',
        message: expect.stringMatching(/postern-ca-state .*externalSecret.*delete that ConfigMap/s),
      }),
    );
  });
});
