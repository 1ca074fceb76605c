/** A place in a line; made where somebody begins to wait, which most never do. */
export class WaitingPlace<T> {
  readonly waiter: T;
  /** Null iff it is the first, or has left. */
  ahead: WaitingPlace<T> | null = null;
  /** Null iff it is the last, or has left. */
  behind: WaitingPlace<T> | null = null;

  constructor(waiter: T) {
    this.waiter = waiter;
  }
}

/** First come, first served; anybody may leave at any time. Not a `Set`: see `LiveList`. */
export class WaitingLine<T> {
  #first: WaitingPlace<T> | null = null;
  #last: WaitingPlace<T> | null = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): WaitingPlace<T> | null {
    return this.#first;
  }

  join(waiter: T): WaitingPlace<T> {
    const place = new WaitingPlace(waiter);
    place.ahead = this.#last;
    if (this.#last === null) this.#first = place;
    else this.#last.behind = place;
    this.#last = place;
    this.#size++;
    return place;
  }

  /** `place` MUST be in this line. */
  leave(place: WaitingPlace<T>): void {
    const { ahead, behind } = place;
    if (ahead === null) this.#first = behind;
    else ahead.behind = behind;
    if (behind === null) this.#last = ahead;
    else behind.ahead = ahead;
    place.ahead = null;
    place.behind = null;
    this.#size--;
  }
}
