import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LeaderElection, type LeaderElectionOptions } from '../../../kubernetes/lease/leader-election.ts';
import type { Term } from '../../../kubernetes/lease/term.ts';
import { eventually } from '../../support/eventually.ts';
import { silentLog } from '../informer/support.ts';
import { broken, LeaseClient, LeaseServer, slow } from './support.ts';

const timings = { leaseMs: 2_000, renewDeadlineMs: 1_000, retryMs: 40, settleMs: 300 };
const LEASE = { namespace: 'postern-system', name: 'postern-control-plane' };

let server: LeaseServer;
let elections: LeaderElection[];
let clients: LeaseClient[];
let terms: { readonly who: string; readonly term: Term }[];

const untilOver = (term: Term): Promise<void> =>
  new Promise((resolve) => term.signal.addEventListener('abort', () => resolve(), { once: true }));

/** A replica that stands for election. */
function candidate(who: string, options: Partial<LeaderElectionOptions> = {}): LeaderElection {
  const client = new LeaseClient(server);
  const election = new LeaderElection({
    api: client,
    lease: LEASE,
    identity: who,
    lead: async (term) => {
      terms.push({ who, term });
      await untilOver(term);
    },
    log: silentLog,
    timings,
    ...options,
  });
  clients.push(client);
  elections.push(election);
  election.start();
  return election;
}

const leaders = (): number => elections.filter(({ isLeader }) => isLeader).length;
const elected = (election: LeaderElection) => eventually(() => election.isLeader, { what: 'a leader' });

beforeEach(() => {
  server = new LeaseServer();
  elections = [];
  clients = [];
  terms = [];
});
afterEach(() => Promise.all(elections.map((election) => election.stop())));

describe('an election', () => {
  test('makes one of several the leader, and writes it down', async () => {
    // So long that no renewal comes too late.
    const long = { ...timings, leaseMs: 60_000, renewDeadlineMs: 30_000 };
    for (const who of ['a', 'b', 'c']) candidate(who, { timings: long });
    await eventually(() => leaders() === 1, { what: 'one leader' });
    const [first] = terms;
    await sleep(200);
    expect(terms).toHaveLength(1);
    expect(server.spec).toMatchObject({ holderIdentity: first?.who, leaseDurationSeconds: 60, leaseTransitions: 0 });
    // Kubernetes takes nothing but six digits.
    for (const name of ['acquireTime', 'renewTime']) {
      expect(server.spec[name]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    }
    expect(elections.every(({ holder }) => holder === null || holder === first?.who)).toBe(true);
  });

  test('goes to another at once also where the leader’s last renewal was still on its way when it stopped', async () => {
    const leader = candidate('a');
    await elected(leader);
    const [client] = clients;
    if (client === undefined) throw new Error('there is one');
    const { writes } = server;
    // Stored, and never answered.
    client.after = () => new Promise(() => {});
    await eventually(() => server.writes > writes, { what: 'a renewal' });
    client.after = async () => {};
    await leader.stop();
    expect(server.spec).toMatchObject({ holderIdentity: '' });
  });

  test('goes to another at once when the leader stops, who counts the change', async () => {
    const long = { ...timings, leaseMs: 3_600_000, renewDeadlineMs: 1_800_000 };
    const first = candidate('a', { timings: long });
    await elected(first);
    const second = candidate('b', { timings: long });
    await first.stop();
    expect(terms[0]?.term.signal.aborted).toBe(true);
    // Nobody waits for a lease that was given back.
    await elected(second);
    expect(server.spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
  });

  test('goes to another when the leader is silent, whatever its clock says', async () => {
    const first = candidate('a');
    await elected(first);
    const [client] = clients;
    if (client !== undefined) client.before = broken;
    // A renewal of the far future is no reason to wait for it.
    server.store({ ...(server.object ?? {}), spec: { ...server.spec, renewTime: '2999-01-01T00:00:00.000000Z' } });
    const second = candidate('b');
    await elected(second);
    expect(first.isLeader).toBe(false);
  });

  test('waits for as long as the holder says, from when its word was first seen', async () => {
    server.store({ metadata: LEASE, spec: { holderIdentity: 'z', leaseDurationSeconds: 60, renewTime: 'long ago' } });
    const election = candidate('a', { timings: { ...timings, leaseMs: 500, renewDeadlineMs: 250 } });
    await eventually(() => election.holder === 'z', { what: 'a look at the lease' });
    await sleep(600);
    expect(election.isLeader).toBe(false);
  });

  test('is not put off by labels that somebody writes on the lease', async () => {
    server.store({ metadata: LEASE, spec: { holderIdentity: 'z', leaseDurationSeconds: 1, renewTime: 'long ago' } });
    const timer = setInterval(
      () => server.object !== null && server.spec.holderIdentity === 'z' && server.store(server.object),
      50,
    );
    const election = candidate('a');
    await elected(election).finally(() => clearInterval(timer));
  });
});

describe('a leader', () => {
  test('that cannot renew stops before another may begin', async () => {
    const first = candidate('a');
    await elected(first);
    const [client] = clients;
    if (client !== undefined) client.before = broken;
    await eventually(() => terms[0]?.term.signal.aborted === true, { what: 'the end of the term' });
    expect(server.spec.holderIdentity).toBe('a');
    if (client !== undefined) client.before = async () => {};
    await elected(first);
    expect(terms.length).toBeGreaterThan(1);
    expect(server.spec.leaseTransitions).toBe(0);
  });

  test('whose requests hang stops as well', async () => {
    const first = candidate('a');
    await elected(first);
    const [client] = clients;
    if (client !== undefined) client.after = () => new Promise<void>(() => {});
    await eventually(() => !first.isLeader, { what: 'the end of the term' });
  });

  test('whose lease was taken by force stops at once', async () => {
    const first = candidate('a', { timings: { ...timings, leaseMs: 7_200_000, renewDeadlineMs: 3_600_000 } });
    await elected(first);
    server.store({
      ...(server.object ?? {}),
      spec: { ...server.spec, holderIdentity: 'z', leaseDurationSeconds: 3600 },
    });
    await eventually(() => !first.isLeader, { what: 'the end of the term' });
    expect(first.holder).toBe('z');
  });

  test('does not lead again before the work of its last term has ended', async () => {
    let finish = (): void => {};
    const first = candidate('a', {
      lead: async (term) => {
        terms.push({ who: 'a', term });
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
      },
    });
    await elected(first);
    const [client] = clients;
    if (client !== undefined) client.before = broken;
    await eventually(() => !first.isLeader, { what: 'the end of the term' });
    if (client !== undefined) client.before = async () => {};
    const { writes } = server;
    await sleep(200);
    expect(terms).toHaveLength(1);
    expect(server.writes).toBe(writes);
    finish();
    await eventually(() => terms.length === 2, { what: 'a second term' });
    finish();
  });

  test('whose work does not end leaves the lease to run out', async () => {
    const first = candidate('a', { lead: () => new Promise<void>(() => {}) });
    await elected(first);
    await first.stop();
    expect(server.spec.holderIdentity).toBe('a');
  });

  test('whose work fails begins it anew', async () => {
    let attempts = 0;
    candidate('a', {
      lead: async () => {
        attempts += 1;
        throw new Error('work');
      },
    });
    await eventually(() => attempts > 1, { what: 'a second attempt' });
  });
});

test('there are never two leaders, however slow and broken the ways to the server are', async () => {
  const quick = { leaseMs: 1_000, renewDeadlineMs: 600, retryMs: 10, settleMs: 100 };
  for (const who of ['a', 'b', 'c', 'd']) candidate(who, { timings: quick });
  let most = 0;
  const oneLeader = (unlike: LeaderElection | undefined): boolean => {
    most = Math.max(most, leaders());
    const leader = elections.find(({ isLeader }) => isLeader);
    return leader !== undefined && leader !== unlike;
  };
  for (let round = 0; round < 4; round++) {
    await eventually(() => oneLeader(undefined), { what: 'a leader', everyMs: 1 });
    const leader = elections.find(({ isLeader }) => isLeader);
    for (const [index, client] of clients.entries()) {
      // Of one kind the write has been done, and nobody hears of it.
      client.before = elections[index] === leader ? broken : slow(10 * index);
      client.after = index % 2 === round % 2 ? slow(20) : async () => (Math.random() < 0.3 ? broken() : undefined);
    }
    await eventually(() => oneLeader(leader), { what: 'another leader', everyMs: 1 });
    for (const client of clients) client.before = async () => {};
  }
  expect(most).toBe(1);
  expect(new Set(terms.map(({ who }) => who)).size).toBeGreaterThan(1);
});
