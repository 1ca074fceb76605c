import { expect, test } from 'vitest';
import { ApplicationPools, placeOf } from '../../../proxy/inbound/application-pools.ts';
import type { HttpLimits } from '../../../proxy/worker/messages.ts';
import { FakeConnection, FakeLoop, FakeSeeker } from '../connection/support/fake-pool.ts';
import { HTTP_LIMITS } from '../support/http-limits.ts';

/** Pools whose connections the test makes. */
class World {
  readonly made: FakeConnection[] = [];
  readonly pools: ApplicationPools;
  pending = 0;
  connections = 0;

  constructor(limits: Partial<HttpLimits> = {}) {
    const loop = new FakeLoop();
    const metrics = {
      httpPending: (change: number) => {
        this.pending += change;
      },
      httpPool: (direction: string, change: number) => {
        expect(direction).toBe('inbound');
        this.connections += change;
      },
    };
    this.pools = new ApplicationPools(
      { loop, limits: { ...HTTP_LIMITS, ...limits }, metrics: metrics as never },
      ({ protocol }, owner) => {
        const connection = new FakeConnection(owner, protocol === 'h2' ? 2 : 1, loop);
        this.made.push(connection);
        return connection;
      },
    );
  }

  ask(protocol: 'http/1' | 'h2' = 'http/1', port = 8080): { seeker: FakeSeeker; found: string } {
    const seeker = new FakeSeeker();
    const found = this.pools.of(placeOf({ address: '127.0.0.1', port }, protocol)).seek(seeker, false);
    return { seeker, found };
  }

  at(index: number): FakeConnection {
    const connection = this.made[index];
    if (connection === undefined) throw new Error(`no connection ${index} was made`);
    return connection;
  }
}

test('requests to one address in one version share its connections', () => {
  const world = new World();
  world.ask();
  world.at(0).connect();
  world.at(0).finishOne();
  expect(world.ask().seeker.got).toBe(world.at(0));
});

test.each([
  ['of another port', 'http/1', 8081],
  ['of another version', 'h2', 8080],
] as const)('requests do not share connections %s', (_, protocol, port) => {
  const world = new World();
  world.ask();
  world.at(0).connect();
  world.at(0).finishOne();
  expect(world.ask(protocol, port).seeker.got).toBeNull();
});

test('an application that refuses one connection is not taken to refuse the others', () => {
  const world = new World();
  const [first, second] = [world.ask(), world.ask()];
  world.at(0).fail();
  expect([first.seeker.failure, second.seeker.failure]).toEqual(['ECONNREFUSED', null]);
});

test('at most maxPendingRequests wait for one address', () => {
  const world = new World({ maxPendingRequests: 1 });
  world.ask();
  expect(world.ask().found).toBe('overflow');
  expect(world.ask('http/1', 8081).found).toBe('waiting');
  expect(world.pending).toBe(2);
});

test('pools that are empty are forgotten when there are many, the others are not', () => {
  const world = new World();
  const kept = world.ask('http/1', 1);
  world.at(0).connect();
  for (let port = 2; port < 1_000; port++) {
    world.ask('http/1', port);
    world.at(port - 1).fail();
  }
  expect(world.pools.size).toBeLessThanOrEqual(64);
  expect(kept.seeker.got).toBe(world.at(0));
  world.at(0).finishOne();
  expect(world.ask('http/1', 1).seeker.got).toBe(world.at(0));
});

test('at the end everything ends', () => {
  const world = new World();
  world.ask();
  world.at(0).connect();
  const waiting = world.ask('http/1', 8081);
  world.pools.close('drained');
  expect(world.at(0).session.closed).toBe('drained');
  expect(waiting.seeker.failure).toBe('drained');
  expect([world.pending, world.connections]).toEqual([0, 0]);
});
