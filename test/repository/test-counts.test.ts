import { expect, test } from 'vitest';
import { countTests } from '../../scripts/test-counts.ts';

const file = (status: string, ...tests: string[]) => ({
  status,
  assertionResults: tests.map((one) => ({ status: one })),
});
const report = (...testResults: ReturnType<typeof file>[]): string => JSON.stringify({ testResults });

test.each([
  ['passed, failed and skipped tests', report(file('failed', 'passed', 'failed', 'pending', 'todo')), 1, [1, 1, 2]],
  ['a file that does not load', report(file('failed'), file('passed', 'passed')), 1, [1, 1, 0]],
  ['an unhandled rejection beside passing tests', report(file('passed', 'passed')), 1, [1, 1, 0]],
  ['a run that left no report', null, 137, [0, 1, 0]],
  ['a good run', report(file('passed', 'passed', 'passed')), 0, [2, 0, 0]],
])('%s', (_name, text, exitCode, [passed, failed, skipped]) => {
  expect(countTests(text, exitCode)).toEqual({ passed, failed, skipped });
});
