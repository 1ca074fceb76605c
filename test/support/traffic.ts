import { setTimeout as sleep } from 'node:timers/promises';
import { Client, ping, type TcpAddress } from './apps.ts';

export interface TrafficReport {
  readonly connections: number;
  /** Messages over the connections that are kept. */
  readonly exchanges: number;
  readonly failures: readonly string[];
}

/**
 * Traffic against an echo for as long as something is done to the mesh: `loops` clients that make short connections one after another, and
 * `kept` connections that live all the time and exchange a message again and again.
 */
export class Traffic {
  readonly #target: TcpAddress;
  readonly #failures: string[] = [];
  readonly #loops: Promise<void>[];
  #stopping = false;
  #connections = 0;
  #exchanges = 0;

  constructor(target: TcpAddress, { loops = 2, kept = 2, pauseMs = 10 } = {}) {
    this.#target = target;
    this.#loops = [
      ...Array.from({ length: loops }, () => this.#connectAgainAndAgain(pauseMs)),
      ...Array.from({ length: kept }, () => this.#keepOne(pauseMs)),
    ];
  }

  get connections(): number {
    return this.#connections;
  }

  get exchanges(): number {
    return this.#exchanges;
  }

  get failures(): readonly string[] {
    return this.#failures;
  }

  async stop(): Promise<TrafficReport> {
    this.#stopping = true;
    await Promise.all(this.#loops);
    return { connections: this.#connections, exchanges: this.#exchanges, failures: this.#failures };
  }

  async #connectAgainAndAgain(pauseMs: number): Promise<void> {
    while (!this.#stopping) {
      await ping(this.#target).then(
        () => this.#connections++,
        (error) => this.#fail('new', error),
      );
      await sleep(pauseMs);
    }
  }

  async #keepOne(pauseMs: number): Promise<void> {
    try {
      const client = await Client.dial(this.#target);
      while (!this.#stopping) {
        client.write('x'.repeat(100));
        await client.read(100);
        this.#exchanges++;
        await sleep(pauseMs);
      }
      client.destroy();
    } catch (error) {
      this.#fail('kept', error);
    }
  }

  #fail(which: string, error: unknown): void {
    const at = new Date().toISOString();
    this.#failures.push(`${at} ${which} connection: ${error instanceof Error ? error.message : String(error)}`);
  }
}
