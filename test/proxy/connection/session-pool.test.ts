import { describe, expect, test } from 'vitest';
import { FakePool, FakeSeeker } from './support/fake-pool.ts';

describe('HTTP/1', () => {
  test('a request that finds none idle has one made for it', () => {
    const fake = new FakePool();
    const seeker = fake.seek();
    expect(fake.waiting).toBe(1);
    fake.at(0).connect();
    expect(seeker.got).toBe(fake.at(0));
    expect(fake.waiting).toBe(0);
  });

  test('each of several that wait has one made for it', () => {
    const fake = new FakePool();
    for (let i = 0; i < 3; i++) fake.seek();
    expect(fake.made.length).toBe(3);
  });

  test('the one used last is used next', () => {
    const fake = new FakePool();
    const [first, second] = [fake.busy(), fake.busy()];
    first.finishOne();
    second.finishOne();
    expect(fake.seek().got).toBe(second);
    expect(fake.seek().got).toBe(first);
    expect(fake.made.length).toBe(2);
  });

  test('one that falls idle serves who waits for longest', () => {
    const fake = new FakePool({ maxConnectionsPerEndpoint: 1 });
    const busy = fake.busy();
    const [eldest, younger] = [fake.seek(), fake.seek()];
    busy.finishOne();
    expect(eldest.got).toBe(busy);
    expect(younger.got).toBeNull();
    expect(fake.made.length).toBe(1);
  });

  test('who gave up is not served', () => {
    const fake = new FakePool();
    const seeker = fake.seek();
    fake.pool.giveUp(seeker);
    fake.at(0).connect();
    expect(seeker.got).toBeNull();
    expect(fake.waiting).toBe(0);
    expect(fake.seek().got).toBe(fake.at(0));
  });

  test('one that nobody waits for any more ends where it may not wait for its first request', () => {
    const fake = new FakePool();
    const seeker = fake.seek();
    fake.pool.giveUp(seeker);
    fake.at(0).keepsUnused = false;
    fake.at(0).connect();
    expect(fake.at(0).session.closed).not.toBeNull();
    expect(fake.pool.empty).toBe(true);
  });

  test('one that was offered and left is given to the next', () => {
    const fake = new FakePool({ maxConnectionsPerEndpoint: 1 });
    const over = fake.seek();
    over.wants = false;
    const next = fake.seek();
    fake.at(0).connect();
    expect(next.got).toBe(fake.at(0));
  });

  test('one that falls idle is taken by who waits for another, which stays for the next', () => {
    const fake = new FakePool();
    const first = fake.busy();
    const seeker = fake.seek();
    first.finishOne();
    expect(seeker.got).toBe(first);
    fake.at(1).connect();
    expect(fake.at(1).session.closed).toBeNull();
    expect(fake.seek().got).toBe(fake.at(1));
  });

  test('one that ended while idle is not given', () => {
    const fake = new FakePool();
    const connection = fake.busy();
    connection.finishOne();
    connection.session.close('peer closed');
    expect(fake.seek().got).toBeNull();
    expect(fake.made.length).toBe(2);
    expect(fake.connections).toBe(1);
  });

  test('what wants a fresh one is not given one that has carried something', () => {
    const fake = new FakePool();
    fake.busy().finishOne();
    const seeker = fake.seek(true);
    expect(seeker.got).toBeNull();
    fake.at(1).connect();
    expect(seeker.got).toBe(fake.at(1));
  });

  test('what waits for a fresh one is not given one that falls idle, but those behind it are', () => {
    const fake = new FakePool();
    const used = fake.busy();
    const [wantsFresh, other] = [fake.seek(true), fake.seek()];
    used.finishOne();
    expect([wantsFresh.got, other.got]).toEqual([null, used]);
    fake.at(1).connect();
    expect(wantsFresh.got).toBe(fake.at(1));
  });

  test('what wants a fresh one takes what there is where no other may be made', () => {
    const fake = new FakePool({ maxConnectionsPerEndpoint: 1 });
    const connection = fake.busy();
    connection.finishOne();
    expect(fake.seek(true).got).toBe(connection);
  });
});

describe('HTTP/2', () => {
  test('many wait for one connection, and it serves them all', () => {
    const fake = new FakePool({ version: 'h2', room: 10 });
    const seekers = Array.from({ length: 8 }, () => fake.seek());
    expect(fake.made.length).toBe(1);
    fake.at(0).connect();
    expect(seekers.every(({ got }) => got === fake.at(0))).toBe(true);
  });

  test('a second is made when the first is full', () => {
    const fake = new FakePool({ version: 'h2', room: 2 });
    const seekers = Array.from({ length: 3 }, () => fake.seek());
    fake.at(0).connect();
    expect(fake.made.length).toBe(2);
    fake.at(1).connect();
    expect(seekers[2]?.got).toBe(fake.at(1));
  });

  test('one that has not said how much room it has is waited for', () => {
    const fake = new FakePool({ version: 'h2', room: 0 });
    const seeker = fake.seek();
    fake.at(0).connect();
    fake.seek();
    expect(fake.made.length).toBe(1);
    fake.at(0).session.most = 100;
    fake.at(0).owner.onRoom(fake.at(0));
    expect(seeker.got).toBe(fake.at(0));
  });

  test('one that is used by many at a time counts once among those that are kept', () => {
    const fake = new FakePool({ version: 'h2', room: 5, maxIdlePerEndpoint: 1 });
    const connection = fake.busy();
    for (let i = 0; i < 3; i++) fake.seek();
    for (let i = 0; i < 4; i++) connection.finishOne();
    expect(connection.session.closed).toBeNull();
  });
});

describe('failures', () => {
  test('where something else may take them, all that wait in HTTP/1 hear of the first attempt that fails', () => {
    const fake = new FakePool({ failsAll: true });
    const seekers = [fake.seek(), fake.seek()];
    fake.at(1).fail();
    expect(seekers.map(({ failure }) => failure)).toEqual(['ECONNREFUSED', 'ECONNREFUSED']);
    expect(fake.connectFailures).toBe(1);
  });

  test('where nothing else may take them, each that waits in HTTP/1 hears of its own attempt alone', () => {
    const fake = new FakePool({ failsAll: false });
    const [first, second] = [fake.seek(), fake.seek()];
    fake.at(0).fail();
    expect([first.failure, second.failure]).toEqual(['ECONNREFUSED', null]);
    fake.at(1).connect();
    expect(second.got).toBe(fake.at(1));
    expect(fake.made.length).toBe(2);
  });

  test('where nothing else may take them, all that wait in HTTP/2 hear of the one attempt', () => {
    const fake = new FakePool({ version: 'h2', failsAll: false });
    const seekers = [fake.seek(), fake.seek()];
    fake.at(0).fail();
    expect(seekers.map(({ failure }) => failure)).toEqual(['ECONNREFUSED', 'ECONNREFUSED']);
    expect(fake.made.length).toBe(1);
  });

  test('an endpoint that cannot be connected is told to all who wait, and counts once', () => {
    const fake = new FakePool({ version: 'h2' });
    const seekers = Array.from({ length: 5 }, () => fake.seek());
    fake.at(0).fail('ECONNREFUSED');
    expect(seekers.every(({ failure }) => failure === 'ECONNREFUSED')).toBe(true);
    expect(fake.connectFailures).toBe(1);
    expect(fake.waiting).toBe(0);
    expect(fake.pool.empty).toBe(true);
  });

  test('a connection that ends before it carried anything is a failure, and is not made again and again', () => {
    const fake = new FakePool({ version: 'h2', room: 0 });
    const seeker = fake.seek();
    fake.at(0).connect();
    fake.at(0).session.close('peer closed');
    expect(seeker.failure).toBe('peer closed');
    expect(fake.made.length).toBe(1);
  });

  test('one that ends while it waits for its first request costs nobody who waits for another', () => {
    const fake = new FakePool({ failsAll: false });
    fake.pool.giveUp(fake.seek());
    fake.at(0).connect();
    const seeker = fake.seek(true);
    fake.at(0).session.close('the application ends its idle connections');
    expect(seeker.failure).toBeNull();
    fake.at(1).connect();
    expect(seeker.got).toBe(fake.at(1));
  });

  test('a connection that ends after it carried something is made anew for who waits', () => {
    const fake = new FakePool({ maxConnectionsPerEndpoint: 1 });
    const busy = fake.busy();
    const seeker = fake.seek();
    busy.session.close('reset');
    expect(seeker.failure).toBeNull();
    fake.at(1).connect();
    expect(seeker.got).toBe(fake.at(1));
  });

  test('who is told of a failure may seek again at once', () => {
    const fake = new FakePool();
    const again = new FakeSeeker();
    const seeker = new FakeSeeker();
    seeker.onNoConnection = () => fake.pool.seek(again, false);
    fake.pool.seek(seeker, false);
    fake.at(0).fail();
    expect(fake.made.length).toBe(2);
    fake.at(1).connect();
    expect(again.got).toBe(fake.at(1));
  });
});

describe('bounds', () => {
  test('no more connections are made than allowed', () => {
    const fake = new FakePool({ maxConnectionsPerEndpoint: 2 });
    for (let i = 0; i < 5; i++) fake.seek();
    expect(fake.made.length).toBe(2);
    expect(fake.waiting).toBe(5);
  });

  test('no more wait than allowed', () => {
    const fake = new FakePool({ maxWaiting: 2 });
    fake.seek();
    fake.seek();
    expect(fake.pool.seek(new FakeSeeker(), false)).toBe('overflow');
    expect(fake.waiting).toBe(2);
  });

  test('where one is idle nobody has to wait', () => {
    const fake = new FakePool({ maxWaiting: 1 });
    fake.busy().finishOne();
    expect(fake.pool.seek(new FakeSeeker(), false)).toBe('given');
  });

  test('of too many idle ones the one idle for longest ends', () => {
    const fake = new FakePool({ maxIdlePerEndpoint: 2 });
    const all = [fake.busy(), fake.busy(), fake.busy()];
    for (const connection of all) connection.finishOne();
    expect(all.map(({ session }) => session.closed !== null)).toEqual([true, false, false]);
  });

  test('one that is idle for too long ends, the others in their time', () => {
    const fake = new FakePool({ idlePoolTimeoutMs: 1_000 });
    const [old, young] = [fake.busy(), fake.busy()];
    old.finishOne();
    fake.loop.until(400);
    young.finishOne();
    fake.loop.until(1_050);
    expect([old.session.closed, young.session.closed]).toEqual(['idle', null]);
    fake.loop.until(1_450);
    expect(young.session.closed).toBe('idle');
  });

  test('one in use is not idle', () => {
    const fake = new FakePool({ version: 'h2', idlePoolTimeoutMs: 1_000 });
    const connection = fake.busy();
    fake.seek();
    connection.finishOne();
    fake.loop.until(5_000);
    expect(connection.session.closed).toBeNull();
  });

  test('one in HTTP/2 that falls idle again later is not forgotten', () => {
    const fake = new FakePool({ version: 'h2', idlePoolTimeoutMs: 1_000 });
    const connection = fake.busy();
    connection.finishOne();
    fake.loop.until(500);
    fake.seek();
    fake.loop.until(2_000);
    expect(connection.session.closed).toBeNull();
    connection.finishOne();
    fake.loop.until(3_050);
    expect(connection.session.closed).toBe('idle');
  });
});

describe('a change of certificate or trust', () => {
  test('ends idle ones at once and others after their request', () => {
    const fake = new FakePool();
    const [idle, busy] = [fake.busy(), fake.busy()];
    idle.finishOne();
    for (const connection of [idle, busy]) connection.outdatedBy = 'rotated';
    fake.pool.reconsider();
    expect(idle.session.closed).not.toBeNull();
    expect(busy.session.closed).toBeNull();
    busy.finishOne();
    expect(busy.session.closed).not.toBeNull();
    expect(fake.pool.empty).toBe(true);
  });

  test('ends the requests of a peer that is not trusted any more', () => {
    const fake = new FakePool();
    const busy = fake.busy();
    busy.distrustedBy = 'revoked';
    fake.pool.reconsider();
    expect(busy.session.closed).toBe('revoked');
  });

  test('what was made before it serves who waited, and then ends', () => {
    const fake = new FakePool();
    const seeker = fake.seek();
    fake.at(0).outdatedBy = 'rotated';
    fake.at(0).connect();
    expect(seeker.got).toBe(fake.at(0));
    fake.at(0).finishOne();
    expect(fake.at(0).session.closed).not.toBeNull();
  });

  test('what was made before it does not serve who waits when its request is over', () => {
    const fake = new FakePool({ maxConnectionsPerEndpoint: 1 });
    const busy = fake.busy();
    const seeker = fake.seek();
    busy.outdatedBy = 'rotated';
    busy.finishOne();
    expect(seeker.got).toBeNull();
    fake.at(1).connect();
    expect(seeker.got).toBe(fake.at(1));
  });

  test('what was made before it is given to nobody who comes later, however busy it is', () => {
    const fake = new FakePool({ version: 'h2' });
    const busy = fake.busy();
    busy.outdatedBy = 'its tunnel drains';
    const seeker = fake.seek();
    expect(seeker.got).toBeNull();
    busy.finishOne();
    expect(seeker.got).toBeNull();
    fake.at(1).connect();
    expect(seeker.got).toBe(fake.at(1));
  });
});

describe('an endpoint that is none any more', () => {
  test('gives up what is being made, ends idle ones, and lets requests end', () => {
    const fake = new FakePool();
    const [idle, busy] = [fake.busy(), fake.busy()];
    idle.finishOne();
    const waiting = fake.seek(true);
    fake.pool.retire('gone');
    expect(waiting.failure).toBe('gone');
    expect(fake.at(2).givenUp).toBe(true);
    expect(idle.session.closed).not.toBeNull();
    expect(busy.session.closed).toBeNull();
    busy.finishOne();
    expect(busy.session.closed).not.toBeNull();
    expect(fake.connections).toBe(0);
    expect(fake.pool.empty).toBe(true);
  });
});

describe('the end', () => {
  test('ends what is open, gives up what is being made, and tells who waits', () => {
    const fake = new FakePool();
    const [idle, busy] = [fake.busy(), fake.busy()];
    idle.finishOne();
    const waiting = fake.seek(true);
    fake.pool.close('drained');
    expect([idle.session.closed, busy.session.closed]).toEqual(['drained', 'drained']);
    expect(fake.at(2).givenUp).toBe(true);
    expect(waiting.failure).toBe('drained');
    expect([fake.connections, fake.waiting]).toEqual([0, 0]);
  });

  test('nobody waits for a pool that has ended', () => {
    const fake = new FakePool();
    fake.pool.close('drained');
    expect(fake.pool.seek(new FakeSeeker(), false)).toBe('overflow');
  });
});
