/** A place in a line; made where somebody begins to wait, which most never do. Touched by its line alone. */
export class WaitingPlace<T> {
  readonly waiter: T;
  /** Nothing that has been used will do. */
  readonly wantsFresh: boolean;
  /** Null: it is the first, or has left. */
  ahead: WaitingPlace<T> | null = null;
  /** Null: it is the last, or has left. */
  behind: WaitingPlace<T> | null = null;

  constructor(waiter: T, wantsFresh: boolean) {
    this.waiter = waiter;
    this.wantsFresh = wantsFresh;
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

  /** @param fresh what there is to give is fresh, so that everybody may have it @returns the eldest who may, who stays in line */
  eldest(fresh: boolean): T | null {
    let place = this.#first;
    while (place?.wantsFresh === true && !fresh) place = place.behind;
    return place === null ? null : place.waiter;
  }

  join(waiter: T, wantsFresh: boolean): WaitingPlace<T> {
    const place = new WaitingPlace(waiter, wantsFresh);
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
