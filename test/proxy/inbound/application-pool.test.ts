import { describe, expect, test } from 'vitest';
import { FakeWorld } from './fake-pool.ts';

describe('requests in HTTP/1.1', () => {
  test('have a connection each while they are under way, and share it one after the other', () => {
    const world = new FakeWorld();
    const [first, second] = [world.ask(), world.ask()];
    expect(world.attempts).toHaveLength(2);
    const a = world.attempt(0).connect();
    const b = world.attempt(1).connect();
    expect([first.session, second.session]).toEqual([a, b]);
    expect([first.fresh, second.fresh]).toEqual([true, true]);
    a.release();
    const third = world.ask();
    expect(third.session).toBe(a);
    expect(third.fresh).toBe(false);
    expect(world.attempts).toHaveLength(2);
  });

  test('use the connection that was used last', () => {
    const world = new FakeWorld();
    for (let i = 0; i < 3; i++) world.ask();
    const sessions = [0, 1, 2].map((i) => world.attempt(i).connect());
    for (const at of [1, 2, 0]) sessions[at]?.release();
    expect(world.ask().session).toBe(sessions[0]);
    expect(world.ask().session).toBe(sessions[2]);
  });

  test('take a connection that another gives back rather than wait for their own, which stays for the next', () => {
    const world = new FakeWorld();
    world.ask();
    const a = world.attempt(0).connect();
    const second = world.ask();
    a.release();
    expect(second.session).toBe(a);
    const b = world.attempt(1).connect();
    expect(b.active).toBe(0);
    expect(world.ask().session).toBe(b);
  });

  test('do not share connections of another port', () => {
    const world = new FakeWorld();
    world.ask('http/1', false, 1);
    world.attempt(0).connect().release();
    expect(world.ask('http/1', false, 2).session).toBeNull();
  });

  test('that must have a fresh connection get no idle one', () => {
    const world = new FakeWorld();
    world.ask();
    world.attempt(0).connect().release();
    const again = world.ask('http/1', true);
    expect(again.session).toBeNull();
    world.attempt(1).connect();
    expect(again.fresh).toBe(true);
  });

  test('that are refused by the application are told one by one, each by its own attempt', () => {
    const world = new FakeWorld();
    const [first, second] = [world.ask(), world.ask()];
    world.attempt(0).fail('ECONNREFUSED');
    expect(first.refusal).toBe('UF: application at 127.0.0.1:8080: ECONNREFUSED');
    expect(second.refusal).toBeNull();
    world.attempt(1).connect();
    expect(second.session).not.toBeNull();
    expect(world.pending).toBe(0);
  });

  test('that have given up are served no more', () => {
    const world = new FakeWorld();
    const request = world.ask();
    request.giveUp();
    const session = world.attempt(0).connect();
    expect(request.session).toBeNull();
    expect(session.active).toBe(0);
    expect(world.pending).toBe(0);
  });
});

describe('requests in HTTP/2', () => {
  test('share a connection as far as it has room, and wait for one connection together', () => {
    const world = new FakeWorld({}, 2);
    const requests = [world.ask('h2'), world.ask('h2'), world.ask('h2')];
    expect(world.attempts).toHaveLength(1);
    const a = world.attempt(0).connect();
    expect(requests.map(({ session }) => session)).toEqual([a, a, null]);
    const b = world.attempt(1).connect();
    expect(requests[2]?.session).toBe(b);
  });

  test('wait for the application to say how much room it has, without connecting again', () => {
    const world = new FakeWorld({}, 2);
    const request = world.ask('h2');
    const session = world.attempt(0).connect(0);
    world.ask('h2');
    expect(world.attempts).toHaveLength(1);
    session.ripen();
    expect(request.session).toBe(session);
  });

  test('are all told when their one attempt fails', () => {
    const world = new FakeWorld();
    const requests = [world.ask('h2'), world.ask('h2')];
    world.attempt(0).fail('ECONNREFUSED');
    expect(requests.map(({ refusal }) => refusal)).toEqual(
      Array.from({ length: 2 }, () => 'UF: application at 127.0.0.1:8080: ECONNREFUSED'),
    );
    expect(world.attempts).toHaveLength(1);
  });

  test('do not connect again and again to an application that takes connections only to end them', () => {
    const world = new FakeWorld();
    const request = world.ask('h2');
    world.attempt(0).connect(0).close('the peer ended');
    expect(request.refusal).toBe('UF: application at 127.0.0.1:8080: the peer ended');
    expect(world.attempts).toHaveLength(1);
  });
});

describe('bounds', () => {
  test('at most maxConnectionsPerEndpoint are open or being made', () => {
    const world = new FakeWorld({ maxConnectionsPerEndpoint: 1 });
    world.ask();
    const waiting = world.ask();
    expect(world.attempts).toHaveLength(1);
    const session = world.attempt(0).connect();
    expect(waiting.session).toBeNull();
    session.release();
    expect(waiting.session).toBe(session);
  });

  test('at the limit a request that wanted a fresh connection takes any', () => {
    const world = new FakeWorld({ maxConnectionsPerEndpoint: 1 });
    world.ask();
    const session = world.attempt(0).connect();
    session.release();
    expect(world.ask('http/1', true).session).toBe(session);
  });

  test('beyond maxPendingRequests a request is refused, later than it asked', () => {
    const world = new FakeWorld({ maxPendingRequests: 1 });
    world.ask();
    const tooMany = world.ask();
    expect(tooMany.refusal).toBeNull();
    world.turn();
    expect(tooMany.refusal).toBe('UO: too many requests wait for the application');
    expect(world.pending).toBe(1);
  });

  test('beyond maxIdlePerEndpoint the one that has been idle for longest ends', () => {
    const world = new FakeWorld({ maxIdlePerEndpoint: 2 });
    for (let i = 0; i < 3; i++) world.ask();
    const sessions = [0, 1, 2].map((i) => world.attempt(i).connect());
    for (const session of sessions) session.release();
    expect(sessions.map(({ ended }) => ended)).toEqual(['more idle connections than are kept', null, null]);
    expect(world.connections).toBe(2);
  });

  test('an idle connection ends after idlePoolTimeout, one in use does not', () => {
    const world = new FakeWorld({ idlePoolTimeoutMs: 1_000 });
    world.ask();
    world.ask();
    const [idle, used] = [world.attempt(0).connect(), world.attempt(1).connect()];
    idle.release(0);
    used.release(500);
    world.wait(1_000);
    expect([idle.ended, used.ended]).toEqual(['idle', null]);
    world.wait(1_500);
    expect(used.ended).toBe('idle');
  });

  test('a connection in HTTP/2 that falls idle again later is not forgotten', () => {
    const world = new FakeWorld({ idlePoolTimeoutMs: 1_000 });
    world.ask('h2');
    const session = world.attempt(0).connect();
    session.release(0);
    world.ask('h2');
    world.wait(1_000);
    expect(session.ended).toBeNull();
    session.release(2_000);
    world.wait(3_000);
    expect(session.ended).toBe('idle');
  });

  test('at the end of the worker who waits is told, what is being made is given up, and what is open ends', () => {
    const world = new FakeWorld();
    world.ask();
    const open = world.attempt(0).connect();
    const waiting = world.ask();
    world.pool.close('drained');
    expect(waiting.refusal).toBe('UF: drained');
    expect(world.attempt(1).cancelled).toBe(true);
    expect(open.ended).toBe('drained');
    expect([world.pending, world.connections]).toEqual([0, 0]);
  });
});
