import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as startTimer } from 'node:timers';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { objectKey } from '../../policy/index.ts';
import type { Manifest, Problem } from '../../policy/types.ts';
import { FIXED } from '../config.ts';
import { DirectoryWatch } from './directory-watch.ts';
import type { LastGood } from './last-good.ts';
import { readManifests } from './manifest-file.ts';
import type { ManifestSource, SourceChange, SourceFault } from './manifest-source.ts';
import { problemText } from './problem-text.ts';
import { type FileContent, reconcile } from './reconcile.ts';
import { readStable, type Scan, scanDirectory } from './scan.ts';

const START_ATTEMPTS = 25;
/** However many events there are. */
const MIN_POLL_MS = 10;

export interface DirectorySourceOptions {
  readonly directory: string;
  readonly log: Pick<Logger, 'warn'>;
  /** Null: a file that is bad at the start has no last good version. */
  readonly lastGood: LastGood | null;
  readonly timings?: Partial<Timings>;
}

/** As in `FIXED.source`. */
type Timings = { readonly [K in 'rescanMs' | 'settleMs' | 'removalSettleMs' | 'returnSettleMs']: number };

/** A change that is being watched until it has settled. */
interface Unsettled {
  /** Null: the file is gone. */
  readonly fingerprint: string | null;
  readonly since: number;
}

/** A file's content that was read well and waits for, or was refused, its place. */
interface Candidate {
  readonly content: FileContent | null;
  readonly fingerprint: string | null;
  readonly text: string;
  readonly since: number;
}

/**
 * Manifests from a directory tree, watched. Each file counts whole or not at all; one that is half-written, invalid or unreadable leaves its last good
 * content in force, and so does a directory that cannot be read.
 */
export class DirectorySource implements ManifestSource {
  readonly #directory: string;
  readonly #log: Pick<Logger, 'warn'>;
  readonly #timings: Timings;
  readonly #lastGood: LastGood | null;
  readonly #watch: DirectoryWatch;
  /** Of each file in force. */
  readonly #texts = new Map<string, string>();
  /** Fingerprint of each file as it was last judged, well or not. */
  readonly #judged = new Map<string, string>();
  readonly #unsettled = new Map<string, Unsettled>();
  /** Refused for another file's sake; tried again with each change. */
  readonly #waiting = new Map<string, Candidate>();
  readonly #fileProblems = new Map<string, readonly Problem[]>();
  #inForce: ReadonlyMap<string, FileContent> = new Map();
  #manifests: readonly Manifest[] = [];
  #fault: SourceFault | null = null;
  #rootId: string | null = null;
  /** Removals are believed late until then: the directory was gone a moment ago. */
  #doubtUntil = 0;
  #onChange: ((change: SourceChange) => void) | null = null;
  #timer: NodeJS.Timeout | null = null;
  #polling: Promise<void> | null = null;
  #again = false;

  constructor({ directory, log, lastGood, timings }: DirectorySourceOptions) {
    this.#directory = directory;
    this.#lastGood = lastGood;
    this.#watch = new DirectoryWatch(() => this.#wake(), log);
    this.#log = log;
    this.#timings = { ...FIXED.source, ...timings };
  }

  get manifests(): readonly Manifest[] {
    return this.#manifests;
  }

  get problems(): readonly Problem[] {
    return [...this.#fileProblems].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, problems]) => problems);
  }

  get fault(): SourceFault | null {
    return this.#fault;
  }

  async start(onChange: (change: SourceChange) => void): Promise<void> {
    this.#restore();
    // A file that is being written right now is waited for, within reason.
    for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
      await this.#poll(true);
      if (this.#unsettled.size === 0) break;
      await setTimeout(this.#timings.settleMs);
    }
    if (this.#fault !== null) {
      throw new PosternError('ERR_MANIFESTS', this.#fault.message, { exitCode: EXIT.config });
    }
    this.#onChange = onChange;
    this.#schedule(0);
  }

  async stop(): Promise<void> {
    this.#onChange = null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#watch.close();
    await this.#polling;
    this.#lastGood?.flush();
  }

  /** Begins with what was in force at the end of an earlier run; the first poll replaces what is good today. */
  #restore(): void {
    const contents = new Map<string, FileContent>();
    for (const [path, text] of this.#lastGood?.load() ?? []) {
      const { manifests, problems } = readManifests(text, join(this.#directory, path));
      if (problems.some(({ severity }) => severity === 'error')) continue;
      contents.set(path, manifests);
      this.#texts.set(path, text);
    }
    this.#inForce = contents;
    this.#manifests = [...contents.values()].flat();
  }

  #schedule(delayMs: number): void {
    if (this.#onChange === null) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = startTimer(() => this.#wake(), delayMs);
  }

  /** One poll at a time; a wake-up during one asks for another right after it. */
  #wake(): void {
    if (this.#onChange === null) return;
    if (this.#polling !== null) {
      this.#again = true;
      return;
    }
    this.#polling = this.#poll(false)
      .catch((error: unknown) =>
        this.#log.warn({ err: error, directory: this.#directory }, 'reading the manifests failed; tried again'),
      )
      .then(() => {
        this.#polling = null;
        const again = this.#again;
        this.#again = false;
        this.#schedule(again ? MIN_POLL_MS : this.#nextPollMs());
      });
  }

  #nextPollMs(): number {
    return this.#unsettled.size > 0 ? Math.max(MIN_POLL_MS, this.#timings.settleMs / 2) : this.#timings.rescanMs;
  }

  async #poll(first: boolean): Promise<void> {
    const problemsBefore = this.problems;
    const faultBefore = this.#fault?.message;
    const scan = await this.#scan();
    const now = performance.now();
    let noticedAt = now;
    let changed = false;
    if (scan !== null) {
      this.#watch.set(scan.directories);
      this.#reportSkipped(scan);
      const candidates = await this.#candidates(scan, now, first);
      for (const { since } of candidates.values()) noticedAt = Math.min(noticedAt, since);
      changed = this.#take(candidates);
    }
    const before = new Set(problemsBefore.map(problemText));
    const { problems } = this;
    const otherProblems = problems.length !== before.size || !problems.every((one) => before.has(problemText(one)));
    if (changed || otherProblems || faultBefore !== this.#fault?.message) {
      this.#onChange?.({ manifests: changed, noticedAt });
    }
  }

  async #scan(): Promise<Scan | null> {
    try {
      const scan = await scanDirectory(this.#directory, new Set(this.#inForce.keys()));
      if (this.#fault !== null || (this.#rootId !== null && this.#rootId !== scan.rootId)) {
        this.#doubtUntil = performance.now() + this.#timings.returnSettleMs;
        this.#watch.close();
      }
      this.#rootId = scan.rootId;
      this.#fault = null;
      return scan;
    } catch (error) {
      const message = `cannot read the manifests in ${this.#directory}: ${messageOf(error)}; make it a directory that this user can read`;
      this.#fault = { code: 'ERR_MANIFESTS', message };
      return null;
    }
  }

  /** Reads what has changed and settled. What has not settled is left for a later poll. */
  async #candidates(scan: Scan, now: number, first: boolean): Promise<Map<string, Candidate>> {
    const candidates = new Map<string, Candidate>(this.#waiting);
    for (const [path, fingerprint] of scan.files) {
      if (this.#judged.get(path) === fingerprint) {
        this.#unsettled.delete(path);
        continue;
      }
      candidates.delete(path);
      const since = this.#observe(path, fingerprint, now);
      if (!first && now - since < this.#timings.settleMs) continue;
      const candidate = await this.#read(path, fingerprint, since);
      if (candidate === null) continue;
      if (!first && this.#losesObjects(path, candidate.content) && !this.#removalSettled(since, now)) continue;
      candidates.set(path, candidate);
    }
    for (const path of new Set([...this.#inForce.keys(), ...this.#judged.keys(), ...this.#unsettled.keys()])) {
      if (scan.files.has(path)) continue;
      candidates.delete(path);
      // A file that is still there but was left out (a link now, say) keeps its last good content like any other bad file.
      if (scan.skipped.has(path) && this.#inForce.has(path)) continue;
      const since = this.#observe(path, null, now);
      if (first || this.#removalSettled(since, now)) {
        candidates.set(path, { content: null, fingerprint: null, text: '', since });
      }
    }
    return candidates;
  }

  #observe(path: string, fingerprint: string | null, now: number): number {
    const before = this.#unsettled.get(path);
    if (before !== undefined && before.fingerprint === fingerprint) return before.since;
    this.#unsettled.set(path, { fingerprint, since: now });
    return now;
  }

  #removalSettled(since: number, now: number): boolean {
    return now - since >= this.#timings.removalSettleMs && now >= this.#doubtUntil;
  }

  #losesObjects(path: string, content: FileContent | null): boolean {
    const kept = new Set((content ?? []).map(objectKey));
    return (this.#inForce.get(path) ?? []).some((manifest) => !kept.has(objectKey(manifest)));
  }

  /** Null: not to be taken, be it bad (then it is judged) or still changing. */
  async #read(path: string, fingerprint: string, since: number): Promise<Candidate | null> {
    const file = join(this.#directory, path);
    try {
      const read = await readStable(file);
      if (read === null || read.fingerprint !== fingerprint) return null;
      const { manifests, problems } = readManifests(read.text, file);
      const good = !problems.some(({ severity }) => severity === 'error');
      this.#fileProblems.set(path, problems);
      if (good) return { content: manifests, fingerprint, text: read.text, since };
    } catch (error) {
      this.#fileProblems.set(path, [fileProblem(file, messageOf(error))]);
    }
    this.#judge(path, fingerprint);
    this.#waiting.delete(path);
    return null;
  }

  #judge(path: string, fingerprint: string | null): void {
    this.#unsettled.delete(path);
    if (fingerprint === null) {
      this.#judged.delete(path);
      this.#fileProblems.delete(path);
    } else this.#judged.set(path, fingerprint);
  }

  /** Puts candidates in force. @returns whether anything in force has changed. */
  #take(candidates: ReadonlyMap<string, Candidate>): boolean {
    if (candidates.size === 0) return false;
    const contents = new Map([...candidates].map(([path, { content }]) => [path, content]));
    const { accepted, refused } = reconcile(this.#inForce, contents);
    let changed = false;
    for (const [path, candidate] of candidates) {
      const problem = refused.get(path);
      // While another file is still changing it may be about to give the object up: no verdict yet.
      if (problem !== undefined && [...this.#unsettled.keys()].some((other) => !candidates.has(other))) continue;
      this.#judge(path, candidate.fingerprint);
      if (problem === undefined) {
        changed ||= this.#inForce.get(path) !== candidate.content;
        if (candidate.content === null) this.#texts.delete(path);
        else this.#texts.set(path, candidate.text);
        if (this.#waiting.delete(path)) this.#fileProblems.delete(path);
      } else {
        this.#waiting.set(path, candidate);
        this.#fileProblems.set(path, [problem]);
      }
    }
    this.#inForce = accepted;
    if (!changed) return false;
    this.#manifests = [...accepted.values()].flat();
    this.#lastGood?.save(new Map(this.#texts));
    return true;
  }

  #reportSkipped(scan: Scan): void {
    for (const [path, reason] of scan.skipped) {
      this.#fileProblems.set(path, [fileProblem(join(this.#directory, path), reason)]);
    }
    for (const path of this.#fileProblems.keys()) {
      const known = scan.files.has(path) || scan.skipped.has(path) || this.#inForce.has(path);
      if (!known) this.#fileProblems.delete(path);
    }
  }
}

function fileProblem(file: string, message: string): Problem {
  return { severity: 'error', message, location: { file, line: 1, column: 1 }, resource: null };
}
