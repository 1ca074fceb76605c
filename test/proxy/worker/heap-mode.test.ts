import { expect, test } from 'vitest';
import { HeapMode } from '../../../proxy/worker/heap-mode.ts';

function start() {
  const calls: string[] = [];
  const mode = new HeapMode({ favourSpeed: () => calls.push('speed'), shrink: () => calls.push('shrink') });
  const report = (...shares: readonly number[]): string[] => {
    for (const share of shares) mode.report(share);
    return calls.splice(0);
  };
  return report;
}

/** A minute of reports, but for the last. */
const ALMOST = Array.from({ length: 59 }, () => 0);
const QUIET = [...ALMOST, 0];

test('a worker that was never busy asks nothing of the heap', () => {
  expect(start()(0.04, 0.02, ...QUIET, ...QUIET)).toEqual([]);
});

test('the first load switches to speed, once for ever', () => {
  const report = start();
  expect(report(0.5, 0.9)).toEqual(['speed']);
  report(...QUIET);
  expect(report(0.5)).toEqual([]);
});

test('memory is given back once after each load, when it has been quiet for a while', () => {
  const report = start();
  report(0.5);
  expect(report(...ALMOST)).toEqual([]);
  expect(report(0)).toEqual(['shrink']);
  expect(report(...QUIET, ...QUIET)).toEqual([]);
  report(0.5);
  expect(report(...QUIET)).toEqual(['shrink']);
});

test('a little work in between is not quiet', () => {
  const report = start();
  report(0.5);
  expect(report(...ALMOST, 0.03, ...ALMOST)).toEqual([]);
  expect(report(0)).toEqual(['shrink']);
});
