import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { fileNames } from '../../../../control-plane/ca/authority-state.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import { endsInRoot } from '../../../../mesh/x509/certificate.ts';
import { asObject, field } from '../../../../policy/json.ts';
import type { JsonObject } from '../../../../policy/types.ts';
import { HOUR, newCsr, ORDERS, START } from '../../ca/support.ts';
import { MAX_TTL, newCluster, openReplica, SECRET, SLACK, STATE } from './support.ts';

const DAY = 24 * HOUR;
const keysOf = (object: JsonObject | null): string[] => Object.keys(asObject(field(object, 'data')) ?? {}).sort();
const withData = (
  object: JsonObject | null,
  change: (data: Record<string, unknown>) => Record<string, unknown>,
): JsonObject => ({ ...object, data: change({ ...asObject(field(object, 'data')) }) }) as JsonObject;
const fingerprints = (roots: readonly string[]): string[] =>
  roots.map((pem) => new X509Certificate(pem).fingerprint256);

describe('a CA in a Secret', () => {
  it('is made once, whoever comes first', async () => {
    const { objects, clock } = newCluster();
    const replicas = await Promise.all([1, 2, 3].map(() => openReplica(objects, clock)));
    const [first, ...others] = replicas.map(({ authority }) => authority.roots);
    for (const roots of others) expect(roots).toEqual(first);
    expect(replicas.filter(({ authority }) => authority.isNew)).toHaveLength(1);
    expect(keysOf(objects.peek(SECRET))).toEqual(
      [
        'intermediate-1-1.key',
        'intermediate-1-1.pem',
        'max-ttl-seconds',
        'root-1.key',
        'root-1.pem',
        'state.json',
      ].sort(),
    );
  });

  it('issues leaves that end in its root, in every replica', async () => {
    const { objects, clock } = newCluster();
    const leader = await openReplica(objects, clock);
    const other = await openReplica(objects, clock, { leads: false });
    for (const { authority } of [leader, other]) {
      const { chain, spiffeId, roots } = authority.issueWorkload({ csr: newCsr(), ...ORDERS });
      expect(spiffeId).toBe('spiffe://cluster.local/ns/shop/sa/orders');
      expect(endsInRoot(chain, roots[0] ?? '')).toBe(true);
    }
  });

  it('is not made anew where there has been one: the start fails and says what to do', async () => {
    const { objects, clock } = newCluster();
    const { round } = await openReplica(objects, clock);
    await round();
    expect(objects.peek(STATE)).not.toBeNull();
    objects.put(SECRET, null);
    await expect(openReplica(objects, clock)).rejects.toMatchObject({
      code: 'ERR_CA_LOST',
      message: expect.stringContaining(`restore the Secret from a backup`),
    });
    expect(objects.peek(SECRET)).toBeNull();
  });

  it('is waited for at the start where another replica puts it back', async () => {
    const { objects, clock } = newCluster();
    const { authority, round } = await openReplica(objects, clock);
    await round();
    const secret = objects.peek(SECRET);
    objects.put(SECRET, null);
    const opening = openReplica(objects, clock, { restoreMs: 2_000 });
    objects.put(SECRET, secret);
    expect((await opening).authority.roots).toEqual(authority.roots);
  });

  it('is put back by the leader when it is deleted, and by nobody else', async () => {
    const { objects, clock } = newCluster();
    const leader = await openReplica(objects, clock);
    const other = await openReplica(objects, clock, { leads: false });
    const { roots } = leader.authority;
    objects.put(SECRET, null);
    await other.round();
    expect(objects.peek(SECRET)).toBeNull();
    expect(other.log.lines.map(({ text }) => text).join()).toContain('has been deleted');
    expect(other.authority.issueWorkload({ csr: newCsr(), ...ORDERS }).chain).not.toBe('');
    await leader.round();
    expect((await openReplica(objects, clock)).authority.roots).toEqual(roots);
    expect(leader.log.lines).toContainEqual({ level: 'warn', text: expect.stringContaining('has been put back') });
  });

  it.each<[string, (data: Record<string, unknown>) => Record<string, unknown>]>([
    ['without its state', ({ [fileNames.state]: _, ...rest }) => rest],
    ['with half a state', (data) => ({ ...data, [fileNames.state]: String(data[fileNames.state]).slice(0, 40) })],
    ['with a key that is not base64', (data) => ({ ...data, 'root-1.key': '%%%' })],
    ['with another key', (data) => ({ ...data, 'root-1.key': data['intermediate-1-1.key'] })],
    ['without a certificate', ({ 'root-1.pem': _, ...rest }) => rest],
    [
      'with an intermediate in the root’s place',
      (data) => ({ ...data, 'root-1.pem': data['intermediate-1-1.pem'], 'root-1.key': data['intermediate-1-1.key'] }),
    ],
    ['without the longest lifetime', ({ 'max-ttl-seconds': _, ...rest }) => rest],
    ['with a lifetime of nothing', (data) => ({ ...data, 'max-ttl-seconds': Buffer.from('0').toString('base64') })],
    ['with no data', () => ({})],
  ])('stays in memory when the Secret is damaged: %s', async (_, damage) => {
    const { objects, clock } = newCluster();
    const { authority, log, round } = await openReplica(objects, clock);
    await round();
    const { roots } = authority;
    const good = objects.peek(SECRET);
    const bad = withData(good, damage);
    objects.put(SECRET, bad);
    const stored = objects.peek(SECRET);
    clock.now += HOUR;
    await round();
    await round();
    expect(authority.roots).toEqual(roots);
    expect(objects.peek(SECRET)).toBe(stored);
    expect(authority.confirmedAt).toBe(START);
    const errors = log.lines.filter(({ level }) => level === 'error');
    expect(errors).toHaveLength(1);
    expect(errors[0]?.text).toMatch(/ERR_|restore|delete/);
    expect(authority.issueWorkload({ csr: newCsr(), ...ORDERS }).chain).not.toBe('');
    await expect(openReplica(objects, clock)).rejects.toMatchObject({ code: 'ERR_CA_DAMAGED' });
    objects.put(SECRET, good);
    await round();
    expect(authority.confirmedAt).toBe(clock.now);
  });

  it('tells nothing of a damaged key', async () => {
    const { objects, clock } = newCluster();
    await openReplica(objects, clock);
    const text = 'sehr-geheim-0123456789';
    objects.put(
      SECRET,
      withData(objects.peek(SECRET), (data) => ({ ...data, 'root-1.key': Buffer.from(text).toString('base64') })),
    );
    const error: unknown = await openReplica(objects, clock).catch((thrown: unknown) => thrown);
    expect(String(error)).toContain('root-1.key, is damaged: ');
    expect(String(error)).not.toContain('geheim');
  });

  it('is not exchanged for another CA while it runs', async () => {
    const { objects, clock } = newCluster();
    const { authority, log, round } = await openReplica(objects, clock);
    const { roots } = authority;
    const other = newCluster();
    await openReplica(other.objects, clock);
    objects.put(SECRET, other.objects.peek(SECRET));
    await round();
    expect(authority.roots).toEqual(roots);
    expect(log.lines).toContainEqual({
      level: 'error',
      text: expect.stringContaining('holds another CA, which lacks root 1'),
    });
    await expect(authority.beginRotation()).rejects.toMatchObject({ code: 'ERR_CA_ROTATION' });
  });

  it('of another trust domain is refused at the start', async () => {
    const { objects, clock } = newCluster();
    await openReplica(objects, clock);
    await expect(openReplica(objects, clock, { trustDomain: 'other.example' })).rejects.toMatchObject({
      code: 'ERR_CA_TRUST_DOMAIN',
    });
  });

  it.each([
    ['ahead', 3651 * DAY, 'check the clock'],
    ['behind', -HOUR, 'set the clock'],
  ])('says that the clock may be wrong where it is far %s', async (_, skew, hint) => {
    const { objects, clock } = newCluster();
    await openReplica(objects, clock);
    clock.now += skew;
    await expect(openReplica(objects, clock)).rejects.toMatchObject({
      code: 'ERR_CA_EXPIRED',
      message: expect.stringContaining(hint),
    });
  });

  it('gets a new intermediate in time, which every replica takes over', async () => {
    const { objects, clock } = newCluster();
    const leader = await openReplica(objects, clock);
    const other = await openReplica(objects, clock, { leads: false });
    const serialOf = ({ authority }: typeof leader) => authority.describe().roots[0]?.intermediate?.serial;
    const before = serialOf(leader);
    clock.now += 300 * DAY;
    await other.round();
    expect(serialOf(other)).toBe(before);
    await leader.round();
    await other.round();
    expect(serialOf(leader)).not.toBe(before);
    expect(serialOf(other)).toBe(serialOf(leader));
    expect(keysOf(objects.peek(SECRET))).toContain('intermediate-1-2.key');
    expect(keysOf(objects.peek(SECRET))).not.toContain('intermediate-1-1.key');
  });
});

describe('a leaf', () => {
  it('never outlives the last confirmation by more than the longest lifetime', async () => {
    const { objects, clock } = newCluster();
    const { authority, round } = await openReplica(objects, clock);
    objects.before = () => {
      throw new KubernetesError('Unreachable', 0, 'no answer');
    };
    const issue = (ttlSeconds: number) => authority.issueWorkload({ csr: newCsr(), ...ORDERS, ttlSeconds }).notAfter;
    clock.now = START + 10 * HOUR;
    await round();
    expect(issue(MAX_TTL)).toBe(START + DAY);
    expect(issue(3600)).toBe(clock.now + HOUR);
    clock.now = START + DAY - 60_000;
    expect(issue(3600)).toBe(START + DAY);
    clock.now = START + DAY;
    expect(() => issue(3600)).toThrow(
      expect.objectContaining({ code: 'ERR_CA_EXPIRED', message: expect.stringContaining('has not confirmed') }),
    );
    objects.before = () => {};
    await round();
    expect(issue(3600)).toBe(clock.now + HOUR);
  });

  it('counts the confirmation from the question, not from the answer', async () => {
    const { objects, clock } = newCluster();
    const { authority, round } = await openReplica(objects, clock);
    clock.now += HOUR;
    objects.before = (method, key) => {
      if (method === 'get' && key === SECRET) clock.now += 60_000;
    };
    await round();
    expect(authority.confirmedAt).toBeLessThan(clock.now);
  });

  it('lives no longer than the Secret says, before the leader has raised it to what the settings say', async () => {
    const { objects, clock } = newCluster();
    const short = { defaults: { ttlSeconds: 600, maxTtlSeconds: 3600 } };
    await openReplica(objects, clock, short);
    const leader = await openReplica(objects, clock);
    const issue = () =>
      leader.authority.issueWorkload({ csr: newCsr(), ...ORDERS, ttlSeconds: MAX_TTL }).notAfter - clock.now;
    expect(issue()).toBe(HOUR);
    await leader.round();
    expect(issue()).toBe(DAY);
  });
});

describe('a rotation of a shared root', () => {
  it('goes from step to step in all replicas, and keeps the old root until its last leaf is over', async () => {
    const { objects, clock } = newCluster();
    const leader = await openReplica(objects, clock);
    const other = await openReplica(objects, clock, { leads: false });
    const heard: string[][] = [];
    other.authority.onRootsChanged(() => heard.push(fingerprints(other.authority.roots)));
    const [old] = fingerprints(other.authority.roots);
    await leader.authority.beginRotation();
    await other.round();
    const [, next] = fingerprints(other.authority.roots);
    expect(other.authority.rotationPhase).toBe('begun');
    clock.now += HOUR;
    await leader.authority.activateRotation();
    const end = clock.now + DAY + SLACK;
    expect(leader.authority.retiringLeavesExpireBy).toBe(end);
    await other.round();
    expect(heard).toEqual([
      [old, next],
      [next, old],
    ]);
    expect(
      endsInRoot(other.authority.issueWorkload({ csr: newCsr(), ...ORDERS }).chain, other.authority.roots[0] ?? ''),
    ).toBe(true);
    clock.now = end;
    await expect(leader.authority.finishRotation()).rejects.toMatchObject({ code: 'ERR_CA_ROTATION' });
    clock.now = end + 1;
    await leader.authority.finishRotation();
    await other.round();
    expect(fingerprints(other.authority.roots)).toEqual([next]);
    expect(keysOf(objects.peek(SECRET))).not.toContain('root-1.key');
  });

  it('keeps the old root for longer than any leaf that a replica cut off from the API may have issued', async () => {
    const { objects, clock } = newCluster();
    const leader = await openReplica(objects, clock);
    const cutOff = await openReplica(objects, clock, { leads: false });
    await leader.authority.beginRotation();
    await cutOff.round();
    clock.now += 3 * HOUR;
    await leader.authority.activateRotation();
    clock.now += 10 * HOUR;
    const { notAfter } = cutOff.authority.issueWorkload({ csr: newCsr(), ...ORDERS, ttlSeconds: MAX_TTL });
    expect(notAfter).toBeLessThan(leader.authority.retiringLeavesExpireBy ?? 0);
  });

  it.each(['begun', 'activated'] as const)(
    'is decided again when another write comes in between, at step %s',
    async (phase) => {
      const { objects, clock } = newCluster();
      const leader = await openReplica(objects, clock);
      if (phase === 'activated') await leader.authority.beginRotation();
      let meddled = false;
      objects.before = (method) => {
        if (method !== 'replace' || meddled) return;
        meddled = true;
        objects.put(SECRET, objects.peek(SECRET));
      };
      await (phase === 'begun' ? leader.authority.beginRotation() : leader.authority.activateRotation());
      expect(leader.authority.rotationPhase).toBe(phase);
      expect(meddled).toBe(true);
    },
  );

  it('happens once when two replicas that both believe to lead begin it', async () => {
    const { objects, clock } = newCluster();
    const [a, b] = [await openReplica(objects, clock), await openReplica(objects, clock)];
    const results = await Promise.allSettled([a.authority.beginRotation(), b.authority.beginRotation()]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await a.round();
    await b.round();
    expect(a.authority.roots).toEqual(b.authority.roots);
    expect(a.authority.roots).toHaveLength(2);
  });

  it('is refused where this replica does not lead, with nothing written', async () => {
    const { objects, clock } = newCluster();
    const leader = await openReplica(objects, clock);
    const before = objects.writes().length;
    leader.term.signal = null;
    await expect(leader.authority.beginRotation()).rejects.toMatchObject({ code: 'ERR_CA_ROTATION' });
    leader.term.signal = AbortSignal.abort();
    await expect(leader.authority.beginRotation()).rejects.toMatchObject({ code: 'ERR_CA_ROTATION' });
    expect(objects.writes()).toHaveLength(before);
  });

  it('is known to have happened where only the answer to the write was lost', async () => {
    const { objects, clock } = newCluster();
    const leader = await openReplica(objects, clock);
    objects.after = (method) => {
      if (method === 'replace') throw new KubernetesError('Unreachable', 0, 'the answer is lost');
    };
    await expect(leader.authority.beginRotation()).rejects.toThrow('the answer is lost');
    objects.after = () => {};
    await leader.round();
    expect(leader.authority.rotationPhase).toBe('begun');
  });

  it('is not undone by an old backup of the Secret', async () => {
    const { objects, clock } = newCluster();
    const leader = await openReplica(objects, clock);
    const other = await openReplica(objects, clock, { leads: false });
    const backup = objects.peek(SECRET);
    await leader.authority.beginRotation();
    await leader.authority.activateRotation();
    await other.round();
    const { roots } = other.authority;
    objects.put(SECRET, backup);
    await other.round();
    await leader.round();
    expect(other.authority.roots).toEqual(roots);
    expect(leader.authority.roots).toEqual(roots);
    // The way that the log names: delete it.
    objects.put(SECRET, null);
    await leader.round();
    await other.round();
    expect(other.authority.confirmedAt).toBe(clock.now);
    expect(other.authority.roots).toEqual(roots);
  });
});
