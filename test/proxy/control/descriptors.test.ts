import { fstatSync, openSync } from 'node:fs';
import { expect, it } from 'vitest';
import { closeDescriptors } from '../../../proxy/control/descriptors.ts';

it('closes exactly the descriptors of the bitmap, and forgives those that are closed already', () => {
  const bitmap = new Int32Array(32);
  const owned = Array.from({ length: 40 }, () => openSync('/dev/null', 'r'));
  const spared = openSync('/dev/null', 'r');
  for (const fd of [...owned, 999]) bitmap[fd >> 5] = (bitmap[fd >> 5] ?? 0) | (1 << (fd & 31));
  expect(closeDescriptors(bitmap)).toBe(41);
  for (const fd of owned) expect(() => fstatSync(fd)).toThrow(/EBADF/);
  expect(fstatSync(spared).isCharacterDevice()).toBe(true);
  expect(bitmap.every((word) => word === 0)).toBe(true);
});
