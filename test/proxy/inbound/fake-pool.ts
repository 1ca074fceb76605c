import type { HttpProtocol } from '../../../proxy/connection/http-sessions.ts';
import type { ClientExchange, ClientSession, ClientSessionOwner } from '../../../proxy/http/exchange.ts';
import { ApplicationPool, placeOf, type SessionSeeker } from '../../../proxy/inbound/application-pool.ts';
import type { HttpLimits } from '../../../proxy/worker/messages.ts';
import { HTTP_LIMITS } from '../support/data-plane.ts';

/** A connection to the application, as far as the pool sees it. */
export class FakeSession implements ClientSession {
  room: number;
  active = 0;
  idleSince = 0;
  ended: string | null = null;
  readonly #owner: ClientSessionOwner;
  readonly #most: number;

  constructor(owner: ClientSessionOwner, most: number, room = most) {
    this.#owner = owner;
    this.#most = most;
    this.room = room;
  }

  /** A request begins on it. */
  use(): void {
    this.active++;
    this.room--;
  }

  /** A request on it ends, at this time. */
  release(now = 0): void {
    this.active--;
    this.room++;
    this.idleSince = now;
    this.#owner.onRoom(this);
  }

  /** The peer has said how many requests it takes. */
  ripen(): void {
    this.room = this.#most - this.active;
    this.#owner.onRoom(this);
  }

  begin(): ClientExchange {
    throw new Error('the pool begins nothing');
  }

  retire(): void {
    this.room = 0;
  }

  close(detail: string): void {
    this.ended = detail;
    this.room = 0;
    this.#owner.onSessionEnd(this, detail);
  }
}

export interface Attempt {
  readonly connect: (room?: number) => FakeSession;
  readonly fail: (reason: string) => void;
  cancelled: boolean;
}

/** A request: uses what it is given. */
export class FakeRequest implements SessionSeeker {
  session: FakeSession | null = null;
  fresh: boolean | null = null;
  refusal: string | null = null;
  giveUp: () => void = () => {};

  onSession(session: ClientSession, fresh: boolean): void {
    if (!(session instanceof FakeSession)) throw new Error('not of this test');
    session.use();
    this.session = session;
    this.fresh = fresh;
  }

  onNoSession(flag: 'UF' | 'UO', reason: string): void {
    this.refusal = `${flag}: ${reason}`;
  }
}

/** A pool whose connections and time the test makes. */
export class FakeWorld {
  readonly attempts: Attempt[] = [];
  readonly pool: ApplicationPool;
  now = 0;
  pending = 0;
  connections = 0;
  #timers = new Set<{ fire(): void }>();
  #late: (() => void)[] = [];

  constructor(limits: Partial<HttpLimits> = {}, streams = 2) {
    const world = this;
    const loop = {
      get now() {
        return world.now;
      },
      later: (task: () => void) => this.#late.push(task),
      arm: (timer: { fire(): void }) => this.#timers.add(timer),
      cancel: (timer: { fire(): void }) => this.#timers.delete(timer),
    };
    const metrics = {
      httpPending: (change: number) => {
        this.pending += change;
      },
      httpPool: (_: string, change: number) => {
        this.connections += change;
      },
    };
    const around = { loop, metrics, limits: { ...HTTP_LIMITS, ...limits } };
    this.pool = new ApplicationPool(
      around as unknown as ConstructorParameters<typeof ApplicationPool>[0],
      (_, protocol, owner, events) => {
        const attempt: Attempt & { cancel(): void } = {
          cancelled: false,
          connect: (room) => {
            const session = new FakeSession(owner, protocol === 'h2' ? streams : 1, room);
            events.onConnected(session);
            return session;
          },
          fail: (reason) => events.onFailed(reason),
          cancel: () => {
            attempt.cancelled = true;
          },
        };
        this.attempts.push(attempt);
        return attempt;
      },
    );
  }

  ask(protocol: HttpProtocol = 'http/1', fresh = false, port = 8080): FakeRequest {
    const request = new FakeRequest();
    request.giveUp = this.pool.seek(placeOf({ address: '127.0.0.1', port }, protocol), fresh, request);
    return request;
  }

  attempt(index: number): Attempt {
    const found = this.attempts[index];
    if (found === undefined) throw new Error(`there is no attempt ${index}`);
    return found;
  }

  /** The end of a turn. */
  turn(): void {
    for (const task of this.#late.splice(0)) task();
  }

  /** Fires what is armed. */
  wait(until: number): void {
    this.now = until;
    const due = [...this.#timers];
    this.#timers.clear();
    for (const timer of due) timer.fire();
  }
}
