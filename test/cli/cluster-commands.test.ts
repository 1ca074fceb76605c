import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import type { Finding } from '../../cli/check/facts.ts';
import type { JsonObject } from '../../policy/types.ts';
import { ROOT } from '../repository/source-tree.ts';
import { run as runProgram } from '../support/child.ts';
import { StandInCluster } from '../support/kubernetes/cluster.ts';
import { nameOf } from '../support/kubernetes/objects.ts';

const directory = mkdtempSync(join(tmpdir(), 'postern-commands-'));
const kubeconfig = join(directory, 'admin');
let cluster: StandInCluster;

beforeAll(async () => {
  cluster = await StandInCluster.start();
  cluster.kubeconfig(kubeconfig);
});
afterAll(async () => {
  await cluster?.stop();
  rmSync(directory, { recursive: true });
});

const postern = (...args: readonly string[]) => runProgram(join(ROOT, 'bin', 'postern'), args);
const inCluster = (...args: readonly string[]) => postern(...args, '--kubeconfig', kubeconfig);

describe('postern install --dry-run', () => {
  test('prints what it would apply, without a cluster', async () => {
    const { code, stdout } = await postern('install', '--dry-run', '--overlay', 'ha', '--kubeconfig', '/nowhere');
    expect(code).toBe(0);
    const objects = parseAllDocuments(stdout).map((document) => document.toJS() as JsonObject);
    const kinds = new Set(objects.map(({ kind }) => kind));
    expect([...kinds]).toEqual(expect.arrayContaining(['Namespace', 'Deployment', 'PodDisruptionBudget']));
    expect(objects.filter(({ kind }) => kind === 'CustomResourceDefinition')).toHaveLength(7);
  });

  test.each([
    ['--overlay', 'large'],
    ['--component', 'nothing'],
    ['--set', 'trustDomain'],
  ])('refuses %s %s as a mistake of the caller', async (flag, value) => {
    const { code, stdout, stderr } = await postern('install', '--dry-run', flag, value);
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
    expect(stderr).toContain(flag);
  });
});

describe('a cluster, by the command line', () => {
  const findings = (stdout: string): readonly Finding[] =>
    (JSON.parse(stdout) as { readonly findings: readonly Finding[] }).findings;

  test('will do, is installed into, checked, and left as it was', async () => {
    const before = await inCluster('check', '--pre');
    expect(before).toMatchObject({ code: 0, stdout: expect.stringMatching(/^✓ permissions +you may install$/m) });
    expect(await inCluster('check')).toMatchObject({ code: 1, stdout: expect.stringContaining('not installed') });

    expect(await inCluster('install', '--no-wait')).toMatchObject({ code: 0 });
    const after = await inCluster('check', '--json');
    expect(after.code).toBe(1);
    const errors = findings(after.stdout).filter(({ level }) => level === 'error');
    // Nobody runs the pods of this cluster.
    expect([...new Set(errors.map(({ check }) => check))]).toEqual([
      'control-plane',
      'leader',
      'authority',
      'webhook-injection',
      'webhook-validation',
      'trust-bundles',
    ]);

    expect(await inCluster('uninstall', '--crds')).toMatchObject({ code: 0 });
    const namespaces = cluster.direct.list({ apiVersion: 'v1', kind: 'Namespace' }).map(nameOf);
    expect(namespaces.toSorted()).toEqual(['default', 'kube-node-lease', 'kube-public', 'kube-system']);
    const kind = { apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' };
    expect(cluster.direct.list(kind)).toEqual([]);
  });

  test('says what a user may not do, and what they may not see', async () => {
    const token = cluster.addUser('visitor', ['system:authenticated']);
    const file = join(directory, 'visitor');
    cluster.kubeconfig(file, { token });
    const pre = await postern('check', '--pre', '--kubeconfig', file);
    expect(pre).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^✗ permissions +you may not get namespaces/m),
    });
    const { stdout } = await postern('check', '--json', '--kubeconfig', file);
    expect(findings(stdout)).toContainEqual(
      expect.objectContaining({ level: 'warning', message: expect.stringContaining('could not be looked at') }),
    );
  });

  test('that does not answer is said to be so', async () => {
    const file = join(directory, 'nobody');
    const closed = await StandInCluster.start();
    closed.kubeconfig(file);
    await closed.stop();
    const { code, stdout } = await postern('check', '--kubeconfig', file);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^✗ version +the API server does not answer/);
    expect(stdout.split('\n').filter((line) => line.startsWith('✗'))).toHaveLength(1);
  });
});
