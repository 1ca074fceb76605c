import type { ServerResponse } from 'node:http';
import type { StreamSink } from '../push/sidecar-stream.ts';

/** Bytes to the peer of one stream: what it does not read stays counted here, nowhere else. */
export class ResponseSink implements StreamSink {
  readonly #response: ServerResponse;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  write(line: string): boolean {
    return this.#response.write(line);
  }

  drained(): Promise<void> {
    const response = this.#response;
    return new Promise((resolve) => {
      const done = () => {
        response.off('drain', done);
        response.off('close', done);
        resolve();
      };
      response.on('drain', done);
      response.on('close', done);
      if (response.destroyed || !response.writableNeedDrain) done();
    });
  }

  end(line: string): void {
    const response = this.#response;
    response.end(line);
    // The goodbye is a courtesy: a peer that does not take it is not waited for.
    const timer = setTimeout(() => response.destroy(), GOODBYE_MS);
    response.once('close', () => clearTimeout(timer));
  }

  destroy(): void {
    this.#response.destroy();
  }
}

const GOODBYE_MS = 2_000;
