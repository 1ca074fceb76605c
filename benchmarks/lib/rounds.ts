import { PosternError } from '../../mesh/errors.ts';
import type { Contender } from './contender.ts';

export type Progress = (line: string) => void;

export interface RoundsPlan {
  readonly rounds: number;
  /** No new round begins that would end after this; the first one always runs. Milliseconds. */
  readonly limitMs: number;
}

/** Runs `round` as often as the plan says and its limit allows. @param started when the run began, by `performance.now()` */
export async function inRounds(
  plan: RoundsPlan,
  started: number,
  progress: Progress,
  round: () => Promise<void>,
): Promise<void> {
  for (let number = 1, longest = 0; number <= plan.rounds; number++) {
    const roundStarted = performance.now();
    if (number > 1 && roundStarted - started + longest > plan.limitMs) {
      progress(`stopping after ${number - 1} of ${plan.rounds} rounds: the time limit is near`);
      break;
    }
    progress(`round ${number} of ${plan.rounds}`);
    await round();
    longest = Math.max(longest, performance.now() - roundStarted);
  }
}

/** Measures one contender after its housekeeping. @throws PosternError that names what was measured and with whom */
export async function measureOne<C extends Contender, T>(
  what: string,
  contender: C,
  measure: (contender: C) => Promise<T>,
): Promise<T> {
  try {
    await contender.settle();
    return await measure(contender);
  } catch (cause) {
    if (!(cause instanceof PosternError)) throw cause;
    const message = `${what} with ${contender.name}: ${cause.message}`;
    throw new PosternError(cause.code, message, { cause, exitCode: cause.exitCode });
  }
}
