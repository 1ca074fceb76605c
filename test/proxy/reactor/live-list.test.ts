import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Listed, LiveList } from '../../../proxy/reactor/live-list.ts';

test('a list has what was added and not deleted, once', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(20), fc.boolean()), { maxLength: 200 }), (steps) => {
      const items = Array.from({ length: 21 }, (): Listed => ({ listIndex: -1 }));
      const list = new LiveList<Listed>();
      const model = new Set<Listed>();
      for (const [index, add] of steps) {
        const item = items[index] as Listed;
        if (add) {
          list.add(item);
          model.add(item);
        } else {
          list.delete(item);
          model.delete(item);
        }
        expect(list.size).toBe(model.size);
      }
      expect(new Set(list)).toEqual(model);
      expect(new Set(list.all())).toEqual(model);
      const other = new LiveList<Listed>();
      for (const item of items) {
        expect(list.has(item)).toBe(model.has(item));
        expect(other.has(item)).toBe(false);
        expect(item.listIndex === -1).toBe(!model.has(item));
      }
    }),
  );
});
