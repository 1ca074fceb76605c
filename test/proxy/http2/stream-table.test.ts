import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StreamTable } from '../../../proxy/http2/stream-table.ts';

describe('a table of streams', () => {
  test('does what a Map does, whatever comes and goes', () => {
    const step = fc.record({ id: fc.integer({ min: 1, max: 200 }), add: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), fc.constantFrom(1, 2, 0x100, 0x10001), (steps, stride) => {
        const table = new StreamTable<string>();
        const model = new Map<number, string>();
        for (const { id: n, add } of steps) {
          const id = n * stride;
          if (add) {
            table.set(id, `stream ${id}`);
            model.set(id, `stream ${id}`);
          } else expect(table.delete(id)).toBe(model.delete(id));
          expect(table.size).toBe(model.size);
          expect(table.get(id)).toBe(model.get(id));
        }
        expect([...table].sort()).toEqual([...model.values()].sort());
        expect(table.all().sort()).toEqual([...model.values()].sort());
        for (const [id, stream] of model) expect(table.get(id)).toBe(stream);
      }),
    );
  });

  test('holds the IDs of a long connection: one that stays while a hundred thousand come and go', () => {
    const table = new StreamTable<number>();
    table.set(1, 1);
    for (let id = 3; id < 200_000; id += 2) {
      table.set(id, id);
      if (id > 60) expect(table.delete(id - 56)).toBe(true);
    }
    expect(table.get(1)).toBe(1);
    expect(table.size).toBeLessThanOrEqual(30);
  });

  test('is empty after clear, and works on', () => {
    const table = new StreamTable<number>();
    for (let id = 1; id < 100; id += 2) table.set(id, id);
    table.clear();
    expect(table.size).toBe(0);
    expect(table.get(5)).toBeUndefined();
    table.set(5, 5);
    expect([...table]).toEqual([5]);
  });
});
