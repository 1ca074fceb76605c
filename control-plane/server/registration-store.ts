import { join } from 'node:path';
import { readFileBounded, writeFileAtomic } from '../../mesh/atomic-file.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { parseSpiffeId } from '../../mesh/spiffe-id.ts';
import { objectOf } from '../ca/json.ts';
import type { RegisteredWorkload } from '../registry/registrations.ts';
import { readRegistration } from './request-schema.ts';

type Labels = { readonly [key: string]: string };

const MAX_FILE_BYTES = 64 * 1024 * 1024;
/** Sets of labels that one identity may have been given: replicas of several versions. */
const MAX_LABEL_SETS = 64;

/**
 * `<dataDir>/registrations.json`: which labels each identity may register with, as its join tokens said, and which workloads were connected last.
 *
 * A binding is on disk before it counts. The list of workloads is saved before others are told of them; a full disk costs endpoints for a moment after a restart.
 */
export class RegistrationStore {
  readonly #path: string;
  readonly #write: typeof writeFileAtomic;
  readonly remembered: readonly RegisteredWorkload[];
  /** By SPIFFE ID. Absent: no token of this identity named labels. */
  #labels: ReadonlyMap<string, readonly Labels[]>;
  #workloads: readonly RegisteredWorkload[];

  /** @throws PosternError ERR_REGISTRATIONS_DAMAGED: bindings that cannot be read must not count as none. */
  constructor(dataDir: string, trustDomain: string, write: typeof writeFileAtomic = writeFileAtomic) {
    this.#path = join(dataDir, 'registrations.json');
    this.#write = write;
    const { labels, workloads } = load(this.#path);
    this.#labels = labels;
    this.remembered = workloads.filter(({ identity }) => parseSpiffeId(identity)?.trustDomain === trustDomain);
    this.#workloads = this.remembered;
  }

  /** Null: any labels are allowed. */
  labelsOf(identity: string): readonly Labels[] | null {
    return this.#labels.get(identity) ?? null;
  }

  /** @throws PosternError ERR_DISK_FULL, ERR_FILE_WRITE; nothing is bound then. */
  bindLabels(identity: string, labels: Labels): void {
    const before = this.#labels.get(identity) ?? [];
    const bound = sorted(labels);
    if (before.some((known) => sameLabels(known, bound))) return;
    const next = new Map(this.#labels).set(identity, [...before, bound].slice(-MAX_LABEL_SETS));
    this.#save(next, this.#workloads);
    this.#labels = next;
  }

  /** @throws PosternError ERR_DISK_FULL, ERR_FILE_WRITE */
  saveWorkloads(workloads: readonly RegisteredWorkload[]): void {
    this.#save(this.#labels, workloads);
    this.#workloads = workloads;
  }

  #save(labels: ReadonlyMap<string, readonly Labels[]>, workloads: readonly RegisteredWorkload[]): void {
    const text = JSON.stringify({ version: 1, labels: Object.fromEntries(labels), workloads });
    this.#write(this.#path, `${text}\n`, { mode: 0o600 });
  }
}

export function sameLabels(a: Labels, b: Labels): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

function sorted(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}

interface Stored {
  readonly labels: ReadonlyMap<string, readonly Labels[]>;
  readonly workloads: readonly RegisteredWorkload[];
}

function load(path: string): Stored {
  try {
    return parse(JSON.parse(readFileBounded(path, MAX_FILE_BYTES).toString('utf8')));
  } catch (error) {
    if (error instanceof PosternError && error.code === 'ERR_FILE_MISSING') return { labels: new Map(), workloads: [] };
    const message = `${path} is damaged (${messageOf(error)}): restore it from a backup; or move it away, which lets identities whose join tokens named labels register with any`;
    throw new PosternError('ERR_REGISTRATIONS_DAMAGED', message, { cause: error, exitCode: EXIT.dataError });
  }
}

function parse(value: unknown): Stored {
  const { version, labels, workloads } = objectOf(value);
  if (version !== 1) throw new Error('"version" must be 1');
  if (!Array.isArray(workloads)) throw new Error('"workloads" must be a list');
  return {
    labels: new Map(Object.entries(objectOf(labels)).map(([identity, sets]) => [identity, labelSets(sets)])),
    workloads: workloads.map((entry: unknown) => {
      const { workload, identity } = objectOf(entry);
      if (typeof identity !== 'string') throw new Error('a workload without identity');
      return { workload: readRegistration(workload), identity };
    }),
  };
}

function labelSets(value: unknown): Labels[] {
  if (!Array.isArray(value)) throw new Error('"labels" must hold lists');
  return value.map((set: unknown) =>
    Object.fromEntries(
      Object.entries(objectOf(set)).map(([key, text]) => {
        if (typeof text !== 'string') throw new Error('labels must be strings');
        return [key, text];
      }),
    ),
  );
}
