import { expect, test } from 'vitest';
import { HeapMode } from '../../../proxy/worker/heap-mode.ts';

function create() {
  const calls: string[] = [];
  const mode = new HeapMode({ favourSpeed: () => calls.push('speed'), shrink: () => calls.push('shrink') });
  const report = (...shares: readonly number[]): string[] => {
    for (const share of shares) mode.report(share);
    return calls.splice(0);
  };
  return { mode, report };
}

/** One whose start is over and cleared away. */
function settled() {
  const { mode, report } = create();
  mode.started();
  report(0.5, 0);
  return report;
}

/** A minute of reports, but for the last. */
const ALMOST = Array.from({ length: 59 }, () => 0);
const QUIET = [...ALMOST, 0];

test('what starting costs is no load, however long the first resources are waited for', () => {
  const { mode, report } = create();
  expect(report(0.9, 0, 0, 0.9)).toEqual([]);
  mode.started();
  expect(report(0.9)).toEqual([]);
});

test('what the start has left is given back once, when the worker is quiet', () => {
  const { mode, report } = create();
  mode.started();
  expect(report(0.5, 0.03)).toEqual([]);
  expect(report(0)).toEqual(['shrink']);
  mode.started();
  expect(report(...QUIET)).toEqual([]);
});

test('a load that comes before the start was cleared away puts that off', () => {
  const { mode, report } = create();
  mode.started();
  expect(report(0.1, 0.5)).toEqual(['speed']);
  expect(report(...ALMOST)).toEqual([]);
  expect(report(0)).toEqual(['shrink']);
});

test('a worker that was never busy asks nothing more of the heap', () => {
  expect(settled()(0.04, 0.02, ...QUIET, ...QUIET)).toEqual([]);
});

test('the first load switches to speed, once for ever', () => {
  const report = settled();
  expect(report(0.5, 0.9)).toEqual(['speed']);
  report(...QUIET);
  expect(report(0.5)).toEqual([]);
});

test('memory is given back once after each load, when it has been quiet for a while', () => {
  const report = settled();
  report(0.5);
  expect(report(...ALMOST)).toEqual([]);
  expect(report(0)).toEqual(['shrink']);
  expect(report(...QUIET, ...QUIET)).toEqual([]);
  report(0.5);
  expect(report(...QUIET)).toEqual(['shrink']);
});

test('a little work in between is not quiet', () => {
  const report = settled();
  report(0.5);
  expect(report(...ALMOST, 0.03, ...ALMOST)).toEqual([]);
  expect(report(0)).toEqual(['shrink']);
});
