import type { Socket } from 'node:net';

/**
 * Bounds the connections of a listener, in all and of one address. Where there are too many in all, the address that has most of them loses its newest:
 * nobody who holds many keeps those away who hold few.
 */
export class FairConnections {
  readonly #most: number;
  readonly #mostPerAddress: number;
  /** In the order in which they came. */
  readonly #byAddress = new Map<string, Set<Socket>>();
  #count = 0;

  constructor(limits: { readonly most: number; readonly mostPerAddress: number }) {
    this.#most = limits.most;
    this.#mostPerAddress = limits.mostPerAddress;
  }

  /** Counts a connection that has just been accepted, until it closes; ends it, or another, where that is one too many. */
  take(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const own = this.#byAddress.get(address) ?? new Set();
    this.#byAddress.set(address, own);
    own.add(socket);
    this.#count += 1;
    socket.once('close', () => this.#give(address, socket));
    if (own.size > this.#mostPerAddress) this.#end(address, socket);
    else if (this.#count > this.#most) this.#endNewestOfGreediest(address, socket);
  }

  /** @param socket the newest of `address` */
  #endNewestOfGreediest(address: string, socket: Socket): void {
    let greediest = address;
    let most = this.#byAddress.get(address)?.size ?? 0;
    for (const [candidate, { size }] of this.#byAddress) {
      if (size > most) [greediest, most] = [candidate, size];
    }
    const newest = greediest === address ? socket : [...(this.#byAddress.get(greediest) ?? [])].at(-1);
    if (newest !== undefined) this.#end(greediest, newest);
  }

  #end(address: string, socket: Socket): void {
    this.#give(address, socket);
    socket.destroy();
  }

  #give(address: string, socket: Socket): void {
    const own = this.#byAddress.get(address);
    if (own?.delete(socket) !== true) return;
    this.#count -= 1;
    if (own.size === 0) this.#byAddress.delete(address);
  }
}
