import type { DataPlane } from '../connection/data-plane.ts';
import { openClientSession } from '../connection/http-sessions.ts';
import type { ConnectionOwner, PooledConnection } from '../connection/session-pool.ts';
import type { ClientSession, ClientSessionOwner } from '../http/exchange.ts';
import type { Channel } from '../reactor/channel.ts';
import { Dial } from '../reactor/dial.ts';
import { SocketEnd } from '../reactor/ends.ts';
import { SocketChannel } from '../reactor/socket-channel.ts';
import type { ApplicationPlace } from './application-pools.ts';

/** One HTTP connection to the application, in plaintext. */
export class ApplicationConnection implements PooledConnection, ClientSessionOwner {
  listIndex = -1;
  served = 0;
  ready = false;
  readonly keepsUnused = true;
  readonly #plane: DataPlane;
  readonly #place: ApplicationPlace;
  readonly #owner: ConnectionOwner<PooledConnection>;
  /** Null iff it is not being connected. */
  #dial: Dial | null = null;
  #session: ClientSession | null = null;

  constructor(plane: DataPlane, place: ApplicationPlace, owner: ConnectionOwner<PooledConnection>) {
    this.#plane = plane;
    this.#place = place;
    this.#owner = owner;
  }

  /** @throws Error before it is open. */
  get session(): ClientSession {
    if (this.#session === null) throw new Error('the connection is not open yet');
    return this.#session;
  }

  open(): void {
    const { loop, config } = this.#plane;
    this.#dial = new Dial(loop, this.#place.at, config.outbound.mark, config.limits.connectTimeoutMs, {
      onConnected: (fd) => {
        this.#dial = null;
        this.#begin(new SocketChannel(loop, new SocketEnd(fd)));
      },
      onFailed: (reason) => {
        this.#dial = null;
        this.#owner.onConnectFailed(this, this.#describe(reason));
      },
    });
  }

  #begin(channel: Channel): void {
    try {
      this.#session = openClientSession(this.#plane, this.#place.protocol, channel, this);
    } catch (error) {
      channel.abort('internal error');
      this.#owner.onConnectFailed(this, this.#describe('internal error'));
      throw error;
    }
    this.#owner.onOpen(this);
  }

  #describe(reason: string): string {
    const { address, port } = this.#place.at;
    return `application at ${address}:${port}: ${reason}`;
  }

  /** Nothing that changes concerns the way to the application. */
  outdated(): string | null {
    return null;
  }

  distrusted(): string | null {
    return null;
  }

  close(detail: string): void {
    this.#dial?.cancel();
    this.#dial = null;
    this.#session?.close(detail);
  }

  onRoom(): void {
    // An exchange that fails within `begin` of the first request would come here before the owner knows of us.
    if (this.#session !== null) this.#owner.onRoom(this);
  }

  onSessionEnd(_session: ClientSession, detail: string): void {
    this.#owner.onGone(this, this.#describe(detail));
  }
}
