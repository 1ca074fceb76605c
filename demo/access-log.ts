import { setTimeout as sleep } from 'node:timers/promises';
import type { ManagedProcess } from './processes.ts';

/** A line of a sidecar's access log, as far as the demo reads it. */
export interface AccessRecord {
  readonly msg: 'access';
  readonly direction: 'inbound' | 'outbound';
  readonly verdict: 'allowed' | 'denied' | 'failed';
  /** `<namespace>/<name>` of the policy that decided, and the index of its rule; null where none matched. */
  readonly policy: string | null;
  readonly rule: number | null;
  readonly reason: string | null;
  readonly source: { readonly principal: string | null };
  /** What went wrong, for a person. */
  readonly detail: string;
}

/** Most records kept of one sidecar. */
const KEPT = 1000;
const POLL_MS = 20;

/** A line of the access log, as against those of the sidecar's own log; null for anything else. */
export function parseAccessRecord(line: string): AccessRecord | null {
  if (!line.startsWith('{')) return null;
  try {
    const record: AccessRecord = JSON.parse(line);
    return record.msg === 'access' ? record : null;
  } catch {
    return null;
  }
}

/** `denied by shop/payments-not-from-frontend, rule 0`; without a policy the reason. */
export function decisionOf({ verdict, policy, rule, reason, detail }: AccessRecord): string {
  if (policy !== null) return `${verdict} by ${policy}, rule ${rule}`;
  return `${verdict}: ${(reason ?? detail).replaceAll('-', ' ')}`;
}

/** The access log of one sidecar as it grows. */
export class AccessLog {
  readonly #records: AccessRecord[] = [];
  #dropped = 0;

  constructor(sidecar: ManagedProcess) {
    sidecar.onLine((line) => {
      const record = parseAccessRecord(line);
      if (record === null) return;
      this.#records.push(record);
      if (this.#records.length <= KEPT) return;
      this.#records.shift();
      this.#dropped++;
    });
  }

  /** How many records there have been: what comes later is what a coming event brings. */
  get position(): number {
    return this.#dropped + this.#records.length;
  }

  /** The first record since `position` of which `wanted` holds; waits for it. Null where none comes in time. */
  async find(
    position: number,
    timeoutMs: number,
    wanted: (record: AccessRecord) => boolean,
  ): Promise<AccessRecord | null> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = this.#records.slice(Math.max(0, position - this.#dropped)).find(wanted);
      if (found !== undefined || performance.now() > deadline) return found ?? null;
      await sleep(POLL_MS);
    }
  }
}
