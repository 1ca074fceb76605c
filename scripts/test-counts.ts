/** What a run of vitest came to, read from the report of its JSON reporter. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

interface Report {
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

/**
 * A file that failed outside its tests (it does not load, a hook threw) counts as one failure, and so does a run that ended badly with no test to
 * blame: an unhandled rejection, or no report at all (`text` null).
 */
export function countTests(text: string | null, exitCode: number): TestCounts {
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  const report: Report = text === null ? { testResults: [] } : JSON.parse(text);
  for (const file of report.testResults) {
    let failedHere = 0;
    for (const { status } of file.assertionResults) {
      if (status === 'passed') passed++;
      else if (status === 'failed') failedHere++;
      else skipped++;
    }
    failed += file.status === 'failed' ? Math.max(failedHere, 1) : failedHere;
  }
  return { passed, failed: exitCode === 0 ? failed : Math.max(failed, 1), skipped };
}
