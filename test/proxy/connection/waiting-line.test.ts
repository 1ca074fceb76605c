import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WaitingLine, type WaitingPlace } from '../../../proxy/connection/waiting-line.ts';

const STEPS = fc.array(fc.oneof(fc.record({ join: fc.boolean() }), fc.record({ leave: fc.nat(30) })), {
  maxLength: 200,
});

test('the eldest is whoever joined first and has not left, and who may have what there is', () => {
  fc.assert(
    fc.property(STEPS, (steps) => {
      const line = new WaitingLine<number>();
      const model: { readonly place: WaitingPlace<number>; readonly id: number; readonly wantsFresh: boolean }[] = [];
      for (const [id, step] of steps.entries()) {
        if ('join' in step) model.push({ place: line.join(id, step.join), id, wantsFresh: step.join });
        else {
          const [gone] = model.splice(step.leave, 1);
          if (gone !== undefined) line.leave(gone.place);
        }
        expect(line.size).toBe(model.length);
        expect(line.eldest(true)).toBe(model[0]?.id ?? null);
        expect(line.eldest(false)).toBe(model.find(({ wantsFresh }) => !wantsFresh)?.id ?? null);
      }
    }),
  );
});
