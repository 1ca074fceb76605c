import type { Logger } from 'pino';
import type { Problem } from '../policy/types.ts';
import type { ControlPlaneMetrics } from './metrics.ts';
import { problemText } from './source/problem-text.ts';

/** Says each complaint about manifests once: when it appears. */
export class ProblemLog {
  readonly #log: Logger;
  readonly #metrics: ControlPlaneMetrics;
  /** Present complaints by where they come from, as text. */
  readonly #present = new Map<string, ReadonlyMap<string, Problem>>();

  constructor(log: Logger, metrics: ControlPlaneMetrics) {
    this.#log = log;
    this.#metrics = metrics;
  }

  /** Replaces the complaints of one origin. */
  set(origin: 'source' | 'mesh', problems: readonly Problem[]): void {
    const before = this.#present.get(origin);
    const now = new Map(problems.map((problem) => [problemText(problem), problem]));
    this.#present.set(origin, now);
    for (const [text, problem] of now) if (before?.has(text) !== true) this.#say(text, problem);
    const all = [...this.#present.values()].flatMap((present) => [...present.values()]);
    for (const severity of ['error', 'warning'] as const) {
      const count = all.filter((one) => one.severity === severity).length;
      this.#metrics.manifestProblems.set({ severity }, count);
    }
  }

  /** `file:line:column: severity: message` of each that is present. */
  get texts(): readonly string[] {
    return [...this.#present.values()].flatMap((problems) => [...problems.keys()]);
  }

  #say(text: string, { severity, location, resource }: Problem): void {
    const fields = { ...location, resource };
    if (severity === 'warning') {
      this.#log.warn(fields, text);
      return;
    }
    this.#metrics.manifestErrors.inc();
    this.#log.error(fields, `${text} (it is not in force until it is put right)`);
  }
}
