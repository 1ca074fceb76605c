import { createHash } from 'node:crypto';
import { isReason } from '../../kubernetes/api/errors.ts';
import { TYPES } from '../../kubernetes/api/resource-types.ts';
import type { KubernetesApi } from '../../kubernetes/api/types.ts';
import type { Manifest } from '../../policy/types.ts';
import { parseSubject, type Revocation } from '../ca/revocation.ts';
import { Listeners } from '../listeners.ts';
import type { RevocationList } from '../platform.ts';
import { createdAt } from '../registry/objects.ts';
import { revokedSubject } from '../registry/revoked.ts';

export interface ClusterRevocationsOptions {
  readonly api: Pick<KubernetesApi, 'create' | 'delete'>;
  /** The `Revocation` objects that the source has, all accepted. */
  readonly manifests: () => readonly Manifest[];
  /** Unix time, milliseconds. */
  readonly clock: () => number;
  /** Longest lifetime of a certificate: after that a revoked serial has expired by itself. */
  readonly maxTtlSeconds: () => number;
}

interface Entry {
  readonly revocation: Revocation;
  /** Names of the objects that say so; several may. */
  readonly objects: readonly string[];
}

const CALL_TIMEOUT_MS = 10_000;
/** Beyond the last certificate's end: when something was revoked the API server says by its own clock, which may be hours behind. Milliseconds. */
const PRUNE_SLACK_MS = 86_400_000;

/**
 * The mesh's revocation list as `Revocation` objects of the cluster: `kubectl` and `postern revoke` write the same. What this replica has written is
 * in force here at once, and elsewhere as soon as the API tells.
 */
export class ClusterRevocations implements RevocationList {
  readonly #options: ClusterRevocationsOptions;
  readonly #listeners = new Listeners();
  /** Written by this replica, not yet told by the API. */
  readonly #written = new Map<string, Entry>();
  #entries: ReadonlyMap<string, Entry> = new Map();

  constructor(options: ClusterRevocationsOptions) {
    this.#options = options;
    this.#read();
  }

  /** The source may have other objects than before. */
  refresh(): void {
    const before = [...this.#entries.keys(), ...this.#written.keys()];
    this.#read();
    const after = new Set([...this.#entries.keys(), ...this.#written.keys()]);
    if (new Set(before).size === after.size && before.every((key) => after.has(key))) return;
    this.#listeners.tell();
  }

  /** @throws PosternError ERR_REVOCATION_SUBJECT; KubernetesError where it could not be stored: then it is not in force. */
  async add(text: string): Promise<Revocation> {
    const subject = parseSubject(text);
    const known = this.#find(keyOf(subject));
    if (known !== null) return known;
    const revocation: Revocation = { ...subject, revokedAt: this.#options.clock() };
    const digest = createHash('sha256').update(keyOf(subject)).digest('hex').slice(0, 20);
    const name = `${subject.kind.toLowerCase()}-${digest}`;
    const object = {
      apiVersion: 'postern.dev/v1',
      kind: 'Revocation',
      metadata: { name },
      spec: { [subject.kind]: subject.value },
    };
    try {
      await this.#options.api.create(TYPES.Revocation, '', object, { signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });
    } catch (error) {
      // Another replica was asked the same.
      if (!isReason(error, 'AlreadyExists')) throw error;
    }
    this.#written.set(keyOf(subject), { revocation, objects: [name] });
    this.#listeners.tell();
    return revocation;
  }

  /** @throws PosternError ERR_REVOCATION_SUBJECT; KubernetesError where an object could not be deleted: it stays in force then. */
  async remove(text: string): Promise<boolean> {
    const key = keyOf(parseSubject(text));
    const names = [this.#entries, this.#written].flatMap((known) => known.get(key)?.objects ?? []);
    let removed = false;
    for (const name of names) {
      const signal = AbortSignal.timeout(CALL_TIMEOUT_MS);
      removed = (await this.#options.api.delete(TYPES.Revocation, { namespace: '', name }, { signal })) || removed;
    }
    if (this.#written.delete(key)) this.#listeners.tell();
    return removed;
  }

  list(): readonly Revocation[] {
    const all = new Map([...this.#written, ...this.#entries]);
    return [...all.values()].map(({ revocation }) => revocation).sort((a, b) => a.revokedAt - b.revokedAt);
  }

  isRevoked({ spiffeId, serial }: { readonly spiffeId: string | null; readonly serial: string }): boolean {
    if (this.#find(keyOf({ kind: 'serial', value: serial })) !== null) return true;
    return spiffeId !== null && this.#find(keyOf({ kind: 'spiffeId', value: spiffeId })) !== null;
  }

  onChange(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  /** For the leader: deletes serials whose certificate cannot be valid any more. */
  async prune(signal: AbortSignal): Promise<void> {
    const horizon = this.#options.clock() - this.#options.maxTtlSeconds() * 1000 - PRUNE_SLACK_MS;
    for (const { revocation, objects } of this.#entries.values()) {
      // 0: the API did not say when; such a one is not ours to judge.
      const { kind, revokedAt } = revocation;
      if (kind !== 'serial' || revokedAt === 0 || revokedAt > horizon) continue;
      for (const name of objects) await this.#options.api.delete(TYPES.Revocation, { namespace: '', name }, { signal });
    }
  }

  #find(key: string): Revocation | null {
    return (this.#entries.get(key) ?? this.#written.get(key))?.revocation ?? null;
  }

  #read(): void {
    const entries = new Map<string, Entry>();
    for (const manifest of this.#options.manifests()) {
      const revocation = readRevocation(manifest);
      const key = keyOf(revocation);
      const before = entries.get(key);
      entries.set(key, {
        revocation:
          before === undefined || revocation.revokedAt > before.revocation.revokedAt ? revocation : before.revocation,
        objects: [...(before?.objects ?? []), manifest.name],
      });
    }
    this.#entries = entries;
    for (const key of entries.keys()) this.#written.delete(key);
  }
}

function readRevocation(manifest: Manifest): Revocation {
  return { ...revokedSubject(manifest), revokedAt: createdAt(manifest) };
}

const keyOf = ({ kind, value }: Pick<Revocation, 'kind' | 'value'>): string => `${kind} ${value}`;
