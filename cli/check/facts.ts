import type { JsonObject } from '../../policy/types.ts';

/** What was asked of the cluster, or why there is no answer. */
export type Fetched<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly why: string; readonly forbidden: boolean };

export type Objects = Fetched<readonly JsonObject[]>;

/** A permission that an installation needs, and whether the user has it. */
export interface Permission {
  readonly verb: string;
  /** `<plural>.<group>`. */
  readonly resource: string;
  readonly namespace: string;
  readonly allowed: Fetched<boolean>;
}

/** Everything that checks look at, as it was within one moment. Checks are pure over it. */
export interface Facts {
  /** Unix time, milliseconds. */
  readonly now: number;
  /** Where the control plane is. */
  readonly namespace: string;
  readonly version: Fetched<{ readonly major: number; readonly minor: number; readonly gitVersion: string }>;
  readonly permissions: readonly Permission[];
  readonly definitions: Objects;
  readonly mutating: Objects;
  readonly validating: Objects;
  readonly namespaces: Objects;
  readonly pods: Objects;
  readonly services: Objects;
  /** Of the control plane's own namespace, as are the four that follow. */
  readonly endpointSlices: Objects;
  readonly deployments: Objects;
  readonly leases: Objects;
  readonly secret: Objects;
  readonly settings: Objects;
  /** ConfigMaps with the mesh's roots, of all namespaces. */
  readonly trustBundles: Objects;
  /** AuthorizationPolicy, PeerAuthentication, RequestAuthentication, WorkloadEntry, ServiceEntry, MeshConfig, Revocation. */
  readonly policies: Objects;
}

export interface Finding {
  /** Name of the check; stable. */
  readonly check: string;
  readonly level: 'ok' | 'warning' | 'error';
  readonly message: string;
  /** How to mend it; null where there is nothing to mend. */
  readonly remedy: string | null;
}

export interface Check {
  readonly name: string;
  /** `before`: only with `--pre`; `after`: only without; `always`. */
  readonly when: 'before' | 'after' | 'always';
  run(facts: Facts): readonly Finding[];
}

/** Collects what one check finds. */
export class Report {
  readonly findings: Finding[] = [];
  readonly #check: string;

  constructor(check: string) {
    this.#check = check;
  }

  ok(message: string): void {
    this.findings.push({ check: this.#check, level: 'ok', message, remedy: null });
  }

  warning(message: string, remedy: string): void {
    this.findings.push({ check: this.#check, level: 'warning', message, remedy });
  }

  error(message: string, remedy: string): void {
    this.findings.push({ check: this.#check, level: 'error', message, remedy });
  }

  /** The value; null where there is none, which is reported. */
  need<T>(fetched: Fetched<T>, what: string): T | null {
    if (fetched.ok) return fetched.value;
    const remedy = fetched.forbidden ? 'run it as a user who may read that' : 'see whether the API server is well';
    this.warning(`${what} could not be looked at: ${fetched.why}`, remedy);
    return null;
  }
}

/** A check whose findings a function reports; where it has nothing to complain about, `fine` says so. */
export function check(name: string, when: Check['when'], look: (facts: Facts, report: Report) => void): Check {
  return {
    name,
    when,
    run(facts) {
      const report = new Report(name);
      look(facts, report);
      return report.findings;
    },
  };
}

const MOST_NAMES = 5;

/** `a, b and 3 more`. */
export function listed(names: readonly string[]): string {
  const shown = names.slice(0, MOST_NAMES).join(', ');
  return names.length > MOST_NAMES ? `${shown} and ${names.length - MOST_NAMES} more` : shown;
}
