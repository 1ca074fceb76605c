import { setTimeout as sleep } from 'node:timers/promises';
import type { ManagedProcess } from './processes.ts';
import { NAMESPACE, TRUST_DOMAIN, type WorkloadName } from './workloads.ts';

export interface LogLine {
  readonly msg: string;
}

/** A line of a sidecar's access log, as far as the demo reads it. */
export interface AccessRecord extends LogLine {
  readonly direction: 'inbound' | 'outbound';
  readonly verdict: 'allowed' | 'denied' | 'failed';
  /** `<namespace>/<name>` of the policy that decided, and the index of its rule; null where none matched. */
  readonly policy: string | null;
  readonly rule: number | null;
  readonly reason: string | null;
  readonly source: { readonly principal: string | null };
  /** What went wrong, for a person. */
  readonly detail: string;
  /** Of a request: the status that its sender got; absent on a TCP connection. */
  readonly status?: number;
  /** Normalised. */
  readonly path?: string;
  /** `iss/sub` of the user's token. */
  readonly userPrincipal?: string | null;
}

/** Most lines kept of one sidecar. */
const KEPT = 1000;
const POLL_MS = 20;

/** A connection that was refused before anything was known of it: such have no access record. */
export interface Refusal {
  readonly reason: string;
  readonly from: string;
}

/** A line of the log of a process that logs JSON; null for anything else. */
export function parseLine(line: string): LogLine | null {
  if (!line.startsWith('{')) return null;
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

export function isAccess(line: LogLine): line is AccessRecord {
  return line.msg === 'access' && 'verdict' in line;
}

/** Whether a line is the record of what this workload began, as the sidecar of the callee saw it. */
export function isCallFrom(line: LogLine, workload: WorkloadName): line is AccessRecord {
  const principal = `spiffe://${TRUST_DOMAIN}/ns/${NAMESPACE}/sa/${workload}`;
  return isAccess(line) && line.direction === 'inbound' && line.source.principal === principal;
}

export function isRefusal(line: LogLine): line is LogLine & Refusal {
  return 'reason' in line && 'from' in line;
}

/** `denied by shop/payments-not-from-frontend, rule 0`; without a policy the reason. */
export function decisionOf({ verdict, policy, rule, reason, detail }: AccessRecord): string {
  if (policy !== null) return `${verdict} by ${policy}, rule ${rule}`;
  return `${verdict}: ${(reason ?? detail).replaceAll('-', ' ')}`;
}

/** What one sidecar logs, as it grows. */
export class SidecarLog {
  readonly #lines: LogLine[] = [];
  #dropped = 0;

  constructor(sidecar: ManagedProcess) {
    sidecar.onLine((text) => {
      const line = parseLine(text);
      if (line === null) return;
      this.#lines.push(line);
      if (this.#lines.length <= KEPT) return;
      this.#lines.shift();
      this.#dropped++;
    });
  }

  /** How many lines there have been: what comes later is what a coming event brings. */
  get position(): number {
    return this.#dropped + this.#lines.length;
  }

  /** The first line since `position` of which `wanted` holds; waits for it. Null where none comes in time. */
  async find<T extends LogLine>(
    position: number,
    timeoutMs: number,
    wanted: (line: LogLine) => line is T,
  ): Promise<T | null> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = this.#lines.slice(Math.max(0, position - this.#dropped)).find(wanted);
      if (found !== undefined || performance.now() > deadline) return found ?? null;
      await sleep(POLL_MS);
    }
  }
}
