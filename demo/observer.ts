import type { ManagedProcess } from './processes.ts';
import { type Segment, tlsRecordType } from './wire.ts';

export interface Observation {
  readonly bytes: number;
  readonly segments: number;
  readonly tlsRecords: { readonly handshake: number; readonly 'application data': number; readonly other: number };
  /** The longest segment that begins with a record of application data. */
  readonly sample: Buffer | null;
}

/** What a capture on a workload's network interface sees (demo/capture.ts is the process that captures). */
export class Observer {
  readonly ready: Promise<void>;
  readonly #segments: Segment[] = [];

  constructor(capture: ManagedProcess) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ready = promise;
    capture.onLine((line) => {
      if (line === 'ready') return resolve();
      if (!line.startsWith('{')) return;
      const { payload, ...ports }: { payload: string; sourcePort: number; destinationPort: number } = JSON.parse(line);
      this.#segments.push({ ...ports, payload: Buffer.from(payload, 'base64') });
    });
  }

  /** Whether a text went over the wire for all to read, within one segment. */
  saw(text: string): boolean {
    return this.#segments.some(({ payload }) => payload.includes(text));
  }

  /** What passed to and from a port so far. */
  observed(port: number): Observation {
    const tlsRecords = { handshake: 0, 'application data': 0, other: 0 };
    let bytes = 0;
    let segments = 0;
    let sample: Buffer | null = null;
    for (const { payload, sourcePort, destinationPort } of this.#segments) {
      if (sourcePort !== port && destinationPort !== port) continue;
      bytes += payload.length;
      segments++;
      const type = tlsRecordType(payload);
      if (type !== null) tlsRecords[type]++;
      if (type === 'application data' && payload.length > (sample?.length ?? 0)) sample = payload;
    }
    return { bytes, segments, tlsRecords, sample };
  }
}
