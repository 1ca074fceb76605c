import { type Listed, LiveList } from '../reactor/live-list.ts';
import type { ConnectionRecord, Flags } from './record.ts';

/** A connection that something may have to end, or ask. */
export interface LiveConnection extends Listed {
  readonly record: ConnectionRecord;
  /** Bytes so far: from the source to the destination, and back. */
  bytesForward(): number;
  bytesBack(): number;
  /** Decide again, and end if that no longer allows it. */
  reconsider(): void;
  /** Ends at once. */
  terminate(flags: Flags, detail: string): void;
  /** Takes no new requests and ends with those under way; absent where the end is the peers' to choose. */
  drain?(): void;
}

/**
 * Every live connection of the worker. ALWAYS: a connection is in the table before it is decided, so that a policy that arrives in between finds it.
 */
export class ConnectionTable {
  readonly #live = new LiveList<LiveConnection>();
  #draining = false;
  #drainingInbound = false;

  /** What is added from now on is to take no second request. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Whoever comes in is to be asked to go elsewhere. */
  get drainingInbound(): boolean {
    return this.#drainingInbound;
  }

  get size(): number {
    return this.#live.size;
  }

  add(connection: LiveConnection): void {
    this.#live.add(connection);
  }

  delete(connection: LiveConnection): void {
    this.#live.delete(connection);
  }

  values(): IterableIterator<LiveConnection> {
    return this.#live[Symbol.iterator]();
  }

  /**
   * What the certificate, the policies or the registry changed may end any of them. One that fails at it is ended, and NEVER keeps the others from it.
   * @param onFault an exception of ours
   */
  reconsiderAll(onFault: (error: unknown) => void): void {
    for (const connection of this.#live.all()) {
      try {
        connection.reconsider();
      } catch (error) {
        onFault(error);
        endAfterFault(connection, onFault);
      }
    }
  }

  /** The sidecar is about to end: what can be told so is told. */
  drainAll(): void {
    this.#draining = true;
    for (const connection of this.#live.all()) connection.drain?.();
  }

  /** Whoever came in is asked to go elsewhere. */
  drainInbound(): void {
    this.#drainingInbound = true;
    for (const connection of this.#live.all()) if (connection.record.direction === 'inbound') connection.drain?.();
  }

  /** Live connections in each direction. */
  load(): { readonly inbound: number; readonly outbound: number } {
    let inbound = 0;
    for (const { record } of this.#live) if (record.direction === 'inbound') inbound++;
    return { inbound, outbound: this.size - inbound };
  }

  /** Long-lived connections tell their bytes as they go, not only at their end. */
  reportAll(): void {
    for (const connection of this.#live) connection.record.report(connection.bytesForward(), connection.bytesBack());
  }

  terminateAll(flags: Flags, detail: string): number {
    const all = this.#live.all();
    for (const connection of all) connection.terminate(flags, detail);
    return all.length;
  }
}

function endAfterFault(connection: LiveConnection, onFault: (error: unknown) => void): void {
  try {
    connection.terminate('INTERNAL', 'internal error');
  } catch (error) {
    onFault(error);
  }
}
