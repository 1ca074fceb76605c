import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { ANNOTATIONS, PREFIX } from '../../../kubernetes/injection/annotations.ts';
import { EXIT } from '../../../mesh/errors.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { annotated, at, container, injected, podOf } from './support.ts';

/** What the injector writes into pods are commands of this very program: each is run as it stands, where it can do nothing. */
function postern(command: readonly string[], ...more: readonly string[]) {
  const [program, ...args] = command;
  expect(program).toBe('postern');
  return spawnSync('bin/postern', [...args, ...more], { encoding: 'utf8' });
}

const commandOf = (container: JsonObject, ...path: readonly string[]): readonly string[] =>
  at(container, ...path, 'command') as readonly string[];

test('every flag of the init container is one of `postern intercept apply`', () => {
  const included = { ports: '80,443', cidrs: '10.0.0.0/8' };
  const excluded = { ports: '81,444', cidrs: '10.1.0.0/16', interfaces: 'net1' };
  const all = ANNOTATIONS.filter(({ target }) => target.to === 'intercept').map(({ name }) => [
    `${PREFIX}${name}`,
    { ...excluded, ...(name.startsWith('include') ? included : {}) }[name.replace(/^.*-/, '') as keyof typeof excluded],
  ]);
  const command = commandOf(container(injected(annotated(Object.fromEntries(all))), 'postern-init'));
  expect(command.slice(0, 4)).toEqual(['postern', 'intercept', 'apply', '--validate']);
  const flags = command.slice(4);
  expect(flags).toHaveLength(2 * all.length);
  const { status, stdout, stderr } = postern(['postern', 'intercept', 'show', '--json', '--backend', 'nft', ...flags]);
  expect([status, stderr]).toEqual([EXIT.ok, '']);
  const { inbound, outbound, excludeInterfaces } = (JSON.parse(stdout) as JsonObject).options as JsonObject;
  expect(excludeInterfaces).toEqual(['net1']);
  for (const lists of [inbound, outbound]) {
    expect(Object.values(lists as JsonObject).map((list) => (list as readonly unknown[]).length)).toEqual([2, 2, 1, 1]);
  }
});

test('the hook before the end drains inbound connections', () => {
  const command = commandOf(container(injected(podOf()), 'postern-proxy'), 'lifecycle', 'preStop', 'exec');
  expect(command).toEqual(['postern', 'drain', '--inbound']);
  expect(postern(command, '--admin', '127.0.0.1:1').status).toBe(EXIT.unavailable);
});

test('the hook after the start waits for the sidecar', () => {
  const pod = injected(podOf(), { nativeSidecar: false });
  const command = commandOf(container(pod, 'postern-proxy'), 'lifecycle', 'postStart', 'exec');
  expect(command).toEqual(['postern', 'wait', '--timeout', '600s']);
  // The last --timeout counts; the one before it has been read all the same.
  expect(postern(command, '--health', '127.0.0.1:1', '--timeout', '0s').status).toBe(EXIT.temporary);
});
