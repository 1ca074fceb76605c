import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

/**
 * A block of loopback addresses that nobody else uses: `127.x.y.0/24`, so that every workload of a mesh may have an address of its own and the
 * ports that are usual. Held by a listening socket for as long as it is in use.
 */
export class LoopbackBlock {
  readonly #prefix: string;
  readonly #lock: Server;
  #next = 10;

  private constructor(prefix: string, lock: Server) {
    this.#prefix = prefix;
    this.#lock = lock;
  }

  static async take(): Promise<LoopbackBlock> {
    for (let attempt = 0; attempt < 100; attempt++) {
      const prefix = `127.${64 + Math.floor(Math.random() * 128)}.${Math.floor(Math.random() * 256)}`;
      const lock = createServer((socket) => socket.destroy());
      lock.listen(15_999, `${prefix}.1`);
      try {
        await once(lock, 'listening');
        lock.unref();
        return new LoopbackBlock(prefix, lock);
      } catch {
        // In use by another test: the next one.
      }
    }
    throw new Error('no free block of loopback addresses in 127.64.0.0/9');
  }

  /** An address that was not given before. */
  address(): string {
    if (this.#next > 250) throw new Error('a block holds 240 addresses');
    return `${this.#prefix}.${this.#next++}`;
  }

  release(): void {
    this.#lock.close();
  }
}
