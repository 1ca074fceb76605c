import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { readQuestion } from '../../cli/authz/request-line.ts';
import type { JsonObject } from '../../policy/index.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

test('the request that the help of authz eval shows is one', () => {
  const help = execFileSync(process.execPath, [MAIN, 'authz', 'eval', '--help'], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  const [example = ''] = /^ *\{[\s\S]*\}$/m.exec(help) ?? [];
  const question = readQuestion(JSON.parse(example) as JsonObject);
  expect([question.workload.namespace, question.request?.method]).toEqual(['shop', 'GET']);
});
