import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteQueue } from '../../../proxy/reactor/byte-queue.ts';

type Step = { readonly push: string } | { readonly drop: number };

test('a byte queue gives back what was pushed, in order, whatever was dropped between', () => {
  const step = fc.oneof(
    fc.record({ push: fc.string({ unit: 'binary-ascii', maxLength: 40 }) }),
    fc.record({ drop: fc.nat(30) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps: readonly Step[]) => {
      const queue = new ByteQueue();
      let wanted = '';
      for (const one of steps) {
        if ('push' in one) {
          wanted += one.push;
          const bytes = Buffer.from(`<${one.push}>`, 'latin1');
          queue.push(bytes, 1, bytes.length - 1);
        } else {
          const count = Math.min(one.drop, queue.length);
          wanted = wanted.slice(count);
          queue.drop(count);
        }
        const target = Buffer.alloc(25);
        const copied = queue.copyTo(target);
        expect(queue.view.toString('latin1')).toBe(wanted);
        expect(queue.length).toBe(wanted.length);
        expect(target.toString('latin1', 0, copied)).toBe(wanted.slice(0, 25));
      }
    }),
  );
});
