import { describe, expect, test } from 'vitest';
import { ConnectionTable, type LiveConnection } from '../../../proxy/connection/table.ts';

const BUG = new Error('a bug');

class FakeConnection {
  listIndex = -1;
  reconsidered = 0;
  readonly ended: string[] = [];
  readonly #fails: readonly string[];

  constructor(...fails: readonly string[]) {
    this.#fails = fails;
  }

  reconsider(): void {
    if (this.#fails.includes('reconsider')) throw BUG;
    this.reconsidered++;
  }

  terminate(flags: string): void {
    if (this.#fails.includes('terminate')) throw BUG;
    this.ended.push(flags);
  }
}

function reconsider(...connections: readonly FakeConnection[]): unknown[] {
  const table = new ConnectionTable();
  for (const one of connections) table.add(one as unknown as LiveConnection);
  const faults: unknown[] = [];
  table.reconsiderAll((error) => faults.push(error));
  return faults;
}

describe('a connection that fails when it is decided again', () => {
  test('is ended and reported, and the others are decided all the same', () => {
    const [before, failing, after] = [new FakeConnection(), new FakeConnection('reconsider'), new FakeConnection()];
    expect(reconsider(before, failing, after)).toEqual([BUG]);
    expect([before.reconsidered, after.reconsidered, failing.ended]).toEqual([1, 1, ['INTERNAL']]);
  });

  test('and when it is ended is reported twice, and the others are decided all the same', () => {
    const [failing, after] = [new FakeConnection('reconsider', 'terminate'), new FakeConnection()];
    expect(reconsider(failing, after)).toEqual([BUG, BUG]);
    expect(after.reconsidered).toBe(1);
  });
});
