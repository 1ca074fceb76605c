import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Real processes on a loaded machine: a deadline is there to end what hangs, not to measure.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    // A file gets a process of its own: tests load native code, send signals and open namespaces.
    pool: 'forks',
  },
});
