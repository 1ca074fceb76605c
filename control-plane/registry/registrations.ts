import type { WorkloadRegistration } from '../../mesh/push.ts';
import { TUNNEL_PORT } from '../../mesh/resources.ts';
import { isLoopback } from '../addresses.ts';
import { ApiError } from '../api-error.ts';
import { FIXED } from '../config.ts';
import type { WorkloadEntryObject } from './objects.ts';

export interface RegisteredWorkload {
  /** Addresses are canonical and there is at least one. */
  readonly workload: WorkloadRegistration;
  /** SPIFFE ID, proven by certificate. */
  readonly identity: string;
  /**
   * A sidecar of a pod, or of a machine that a cluster's WorkloadEntry declares: what others are told of the workload comes from that object alone,
   * nothing where there is none. Absent: false.
   */
  readonly isDeclared?: boolean;
  /** UID of the pod; absent for what is none. Of a later or an earlier pod of the same name nothing counts for this sidecar. */
  readonly podUid?: string;
}

/** What `register` hands to the stream that registered; only its holder can give the registration back. */
export interface Lease {
  readonly name: string;
  /** False: nobody needs to be told, since the workload was known already, exactly so, or is a declared one. */
  readonly changed: boolean;
}

interface Entry {
  readonly registered: RegisteredWorkload;
  /** Null while no stream holds it: believed until `expires`. */
  lease: Lease | null;
  expires: NodeJS.Timeout | null;
}

export interface RegistrationsOptions {
  /** WorkloadEntries of the manifests, whose addresses are taken too. */
  readonly entries: () => readonly WorkloadEntryObject[];
  /** Workloads known before a restart. */
  readonly remembered: readonly RegisteredWorkload[];
  readonly onChange: () => void;
  readonly lingerMs?: number;
  readonly restartGraceMs?: number;
}

/**
 * The workloads whose sidecars are connected, or were a moment ago.
 *
 * ALWAYS: one registration a name, and one a claim (address; address and tunnel port on loopback) among those that are connected and no pods.
 * A registration without a stream yields to whoever claims its address.
 */
export class Registrations {
  readonly #entries = new Map<string, Entry>();
  /** Claim → name of the workload. */
  readonly #claims = new Map<string, string>();
  readonly #options: Required<RegistrationsOptions>;

  constructor(options: RegistrationsOptions) {
    const { lingerMs, restartGraceMs } = FIXED.registry;
    this.#options = { lingerMs, restartGraceMs, ...options };
    for (const registered of options.remembered) this.#put(nameOf(registered), registered, null);
    for (const name of this.#entries.keys()) this.#expire(name, this.#options.restartGraceMs);
  }

  /** Workloads to be told of, by name. */
  list(): readonly RegisteredWorkload[] {
    return [...this.#entries.values()].map(({ registered }) => registered);
  }

  /** @throws ApiError 409 `workload-conflict` where the name or an address belongs to somebody else. */
  register(registered: RegisteredWorkload): Lease {
    const name = nameOf(registered);
    const before = this.#entries.get(name);
    const isAnother = before !== undefined && before.registered.identity !== registered.identity;
    // A pod's name is its pod's, which has been looked up: what held it before was of an earlier pod, whose end nobody has told of.
    if (isAnother && before.lease !== null && isTold(registered)) {
      throw conflict(`the name ${name}`, `a connected sidecar with the identity ${before.registered.identity}`);
    }
    this.#refuseTakenAddresses(name, registered);
    this.#yieldClaims(name, registered);
    const isNew = before === undefined || !sameRegistration(before.registered, registered);
    const changed = isNew && (isTold(registered) || (before !== undefined && isTold(before.registered)));
    const lease = { name, changed };
    this.#drop(name);
    this.#put(name, registered, lease);
    if (changed) this.#options.onChange();
    return lease;
  }

  /** Ends a lease. The workload stays known for a moment, unless another stream has taken it over already. */
  release(lease: Lease): void {
    const entry = this.#entries.get(lease.name);
    if (entry === undefined || entry.lease !== lease) return;
    entry.lease = null;
    this.#expire(lease.name, this.#options.lingerMs);
  }

  /** Forgets workloads at once, connected or not, e.g. because their identity was revoked. */
  forget(matches: (registered: RegisteredWorkload) => boolean): void {
    const names = [...this.#entries].filter(([, { registered }]) => matches(registered)).map(([name]) => name);
    for (const name of names) this.#drop(name);
    if (names.length > 0) this.#options.onChange();
  }

  stop(): void {
    for (const { expires } of this.#entries.values()) if (expires !== null) clearTimeout(expires);
  }

  #refuseTakenAddresses(name: string, registered: RegisteredWorkload): void {
    const { namespace, serviceAccount, addresses } = registered.workload;
    for (const claim of claimsOf(registered)) {
      const holder = this.#claims.get(claim);
      if (holder === undefined || holder === name || this.#entries.get(holder)?.lease === null) continue;
      throw conflict(`the address ${claim}`, `the connected workload ${holder}`);
    }
    if (!isTold(registered)) return;
    for (const entry of this.#options.entries()) {
      const own = entry.namespace === namespace && (entry.serviceAccount ?? 'default') === serviceAccount;
      const sameName = `${entry.namespace}/${entry.name}` === name;
      const sameAddress = addresses.includes(entry.address) && !isLoopback(entry.address);
      if (own || !(sameName || sameAddress)) continue;
      const what = sameName ? `the name ${name}` : `the address ${entry.address}`;
      throw conflict(what, `WorkloadEntry ${entry.namespace}/${entry.name} of another service account`);
    }
  }

  /** Takes the claims of workloads that no stream holds any more. */
  #yieldClaims(name: string, registered: RegisteredWorkload): void {
    for (const claim of claimsOf(registered)) {
      const holder = this.#claims.get(claim);
      if (holder !== undefined && holder !== name) this.#drop(holder);
    }
  }

  #put(name: string, registered: RegisteredWorkload, lease: Lease | null): void {
    this.#entries.set(name, { registered, lease, expires: null });
    for (const claim of claimsOf(registered)) this.#claims.set(claim, name);
  }

  #drop(name: string): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    if (entry.expires !== null) clearTimeout(entry.expires);
    this.#entries.delete(name);
    for (const claim of claimsOf(entry.registered)) {
      if (this.#claims.get(claim) === name) this.#claims.delete(claim);
    }
  }

  #expire(name: string, afterMs: number): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    entry.expires = setTimeout(() => {
      this.#drop(name);
      if (isTold(entry.registered)) this.#options.onChange();
    }, afterMs);
    entry.expires.unref();
  }
}

/** Whether others are told of it because it is registered. */
function isTold({ isDeclared }: RegisteredWorkload): boolean {
  return isDeclared !== true;
}

/** `<namespace>/<name>`. */
export function nameOf({ workload }: Pick<RegisteredWorkload, 'workload'>): string {
  return `${workload.namespace}/${workload.name}`;
}

/** Without interception, workloads on one machine share loopback addresses; their tunnels tell them apart. */
function claimsOf({ workload, isDeclared }: RegisteredWorkload): string[] {
  // Its addresses are those of its object: there they are compared with others'.
  if (isDeclared === true) return [];
  const { addresses, tunnel } = workload;
  const port = tunnel?.port ?? TUNNEL_PORT;
  return addresses.map((address) =>
    isLoopback(address) ? `${address} with tunnel ${tunnel?.address ?? address} port ${port}` : address,
  );
}

function sameRegistration(a: RegisteredWorkload, b: RegisteredWorkload): boolean {
  return a.identity === b.identity && JSON.stringify(a.workload) === JSON.stringify(b.workload);
}

function conflict(what: string, holder: string): ApiError {
  const message = `${what} already belongs to ${holder}: give each workload a name and addresses of its own`;
  return new ApiError(409, 'workload-conflict', message);
}
