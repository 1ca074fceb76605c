/**
 * Who stands behind an address, where several may claim it for a while: a workload that has gone without a word, and the one that got
 * its address after it. The latest claim holds; when it is given up, the one before it holds again.
 */
export class AddressClaims<T> {
  readonly #holders = new Map<string, T[]>();

  at(address: string): T | null {
    return this.#holders.get(address)?.at(-1) ?? null;
  }

  claim(address: string, holder: T): void {
    const holders = this.#holders.get(address);
    if (holders === undefined) this.#holders.set(address, [holder]);
    else holders.push(holder);
  }

  /** Gives up one claim of `holder`. */
  give(address: string, holder: T): void {
    const holders = this.#holders.get(address);
    const index = holders?.lastIndexOf(holder) ?? -1;
    if (holders === undefined || index === -1) return;
    if (holders.length === 1) this.#holders.delete(address);
    else holders.splice(index, 1);
  }
}
