/**
 * A timing wheel with coarse ticks: connections have deadlines by the thousand, set and cleared far more often than they fire, so both must be
 * O(1) and allocate nothing. A timer fires up to one tick late, never early.
 */

const TICK_MS = 16;
const SLOTS = 1024;

/** Intrusive list node: make one for each deadline a connection has, once, and arm it again and again. */
export class Timer {
  readonly #run: () => void;
  /** Null iff not armed. */
  next: Timer | null = null;
  previous: Timer | null = null;
  /** Tick at which it fires. */
  due = 0;

  constructor(run: () => void) {
    this.#run = run;
  }

  get armed(): boolean {
    return this.next !== null;
  }

  fire(): void {
    this.#run();
  }
}

/** A circular list, headed by a timer that never fires. */
function newList(): Timer {
  const head = new Timer(() => {});
  head.next = head;
  head.previous = head;
  return head;
}

function link(timer: Timer, head: Timer): void {
  timer.next = head;
  timer.previous = head.previous;
  (head.previous as Timer).next = timer;
  head.previous = timer;
}

function unlink(timer: Timer): void {
  if (timer.next === null || timer.previous === null) return;
  timer.next.previous = timer.previous;
  timer.previous.next = timer.next;
  timer.next = null;
  timer.previous = null;
}

export class TimerWheel {
  readonly #slots: Timer[] = [];
  readonly #expired = newList();
  #tick = 0;
  #armed = 0;

  constructor() {
    for (let i = 0; i < SLOTS; i++) this.#slots.push(newList());
  }

  /** Arms `timer` to fire `delayMs` after `nowMs`; an armed one is moved. The wheel itself may be as late as the last sleep was long. */
  arm(timer: Timer, delayMs: number, nowMs: number): void {
    if (timer.armed) unlink(timer);
    else this.#armed++;
    timer.due = Math.max(this.#tick, Math.floor(nowMs / TICK_MS)) + Math.max(1, Math.ceil(delayMs / TICK_MS) + 1);
    link(timer, this.#slots[timer.due % SLOTS] as Timer);
  }

  cancel(timer: Timer): void {
    if (!timer.armed) return;
    unlink(timer);
    this.#armed--;
  }

  /** How long the loop may sleep: a tick while any timer is armed, else `idleMs`. */
  sleepMs(nowMs: number, idleMs: number): number {
    if (this.#armed === 0) return idleMs;
    // Look ahead over a few empty slots, so that far deadlines do not wake an idle process sixty times a second.
    let ahead = 1;
    while (ahead < 64) {
      const head = this.#slots[(this.#tick + ahead) % SLOTS] as Timer;
      if (head.next !== head) break;
      ahead++;
    }
    return Math.max(0, Math.min(idleMs, (this.#tick + ahead) * TICK_MS - nowMs));
  }

  /** Fires what is due. `nowMs` must not go back. */
  advance(nowMs: number): void {
    const until = Math.floor(nowMs / TICK_MS);
    if (this.#armed === 0) {
      this.#tick = Math.max(this.#tick, until);
      return;
    }
    while (this.#tick < until) {
      this.#tick++;
      const head = this.#slots[this.#tick % SLOTS] as Timer;
      for (let timer = head.next as Timer; timer !== head; ) {
        const after = timer.next as Timer;
        if (timer.due <= this.#tick) {
          unlink(timer);
          link(timer, this.#expired);
        }
        timer = after;
      }
      this.#fireExpired();
    }
  }

  /** What fires may cancel or arm any other: so they are taken from a list of their own, one by one. */
  #fireExpired(): void {
    for (let timer = this.#expired.next as Timer; timer !== this.#expired; timer = this.#expired.next as Timer) {
      unlink(timer);
      this.#armed--;
      timer.fire();
    }
  }
}
