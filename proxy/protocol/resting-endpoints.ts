/** First back-off and longest, milliseconds. Doubling between them gives the levels 1, 2, 4, 8, 16, 32 and 60 s. */
const FIRST_MS = 1_000;
const LONGEST_MS = 60_000;
const LEVELS = 7;
/** 16 s: longer than a connection may take to be made (10 s by default), so that there is one trial at a time. */
const TRIAL_LEVEL = 4;

/** What an endpoint carries while it may rest. NEVER in two lists; `list` is null exactly where it is in none. */
export interface Restable {
  /** Consecutive failures less one, capped; which back-off the next rest takes. */
  level: number;
  /** When it may be tried again, in the clock of the caller. */
  due: number;
  list: RestingList | null;
  previous: Restable | null;
  next: Restable | null;
}

interface RestingList {
  head: Restable | null;
  tail: Restable | null;
}

const backoffMs = (level: number): number => Math.min(FIRST_MS * 2 ** level, LONGEST_MS);

/**
 * Endpoints that failed, by when they may be tried again. All of one level rest equally long, so that each level is a queue whose head is due
 * first: adding, removing and finding a due one cost the same however many rest.
 */
export class RestingEndpoints<E extends Restable> {
  readonly #levels: readonly RestingList[] = Array.from({ length: LEVELS }, () => ({ head: null, tail: null }));

  /** Begins a rest of the endpoint's level, and raises the level of its next. */
  rest(endpoint: E, now: number): void {
    endpoint.due = now + backoffMs(endpoint.level);
    this.#append(endpoint, this.#levelOf(endpoint.level));
    endpoint.level = Math.min(endpoint.level + 1, LEVELS - 1);
  }

  /** While somebody tries one that was due: nobody else does before the trial must have ended one way or the other. */
  restWhileTried(endpoint: E, now: number): void {
    endpoint.due = now + backoffMs(TRIAL_LEVEL);
    this.#append(endpoint, this.#levelOf(TRIAL_LEVEL));
  }

  remove(endpoint: E): void {
    const list = endpoint.list;
    if (list === null) return;
    if (endpoint.previous === null) list.head = endpoint.next;
    else endpoint.previous.next = endpoint.next;
    if (endpoint.next === null) list.tail = endpoint.previous;
    else endpoint.next.previous = endpoint.previous;
    endpoint.list = null;
    endpoint.previous = null;
    endpoint.next = null;
  }

  /** Takes out one whose rest is over; null where there is none. */
  takeDue(now: number): E | null {
    for (const { head } of this.#levels) {
      if (head !== null && head.due <= now) {
        // Only an E is ever put in.
        const endpoint = head as E;
        this.remove(endpoint);
        return endpoint;
      }
    }
    return null;
  }

  #append(endpoint: E, list: RestingList): void {
    endpoint.list = list;
    endpoint.previous = list.tail;
    endpoint.next = null;
    if (list.tail === null) list.head = endpoint;
    else list.tail.next = endpoint;
    list.tail = endpoint;
  }

  #levelOf(level: number): RestingList {
    return this.#levels[level] as RestingList;
  }
}
