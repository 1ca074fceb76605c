import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { injectText } from '../../cli/inject/inject-text.ts';
import { ANNOTATIONS } from '../../kubernetes/injection/annotations.ts';
import { PosternError } from '../../mesh/errors.ts';
import type { JsonValue } from '../../policy/types.ts';
import { at, SETTINGS } from '../kubernetes/injection/support.ts';

const directory = mkdtempSync(join(tmpdir(), 'postern-inject-'));
afterAll(() => rmSync(directory, { recursive: true }));

const OPTIONS = { settings: SETTINGS, namespace: null, version: '0.1.0' };
const injectInto = (text: string, file = 'app.yaml') => injectText(text, file, OPTIONS);
/** As kubectl reads it, which is YAML 1.1. */
const documents = (text: string): readonly JsonValue[] =>
  parseAllDocuments(text, { version: '1.1' }).map((document) => document.toJS() as JsonValue);

const DEPLOYMENT = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: orders # the name
  namespace: shop
spec:
  replicas: 2

  selector:
    matchLabels: {app: orders}
  template:
    metadata:
      labels: {app: orders, version: 'on', released: "1"}
    spec:
      # keep me
      containers:
      - name: app
        image: "x:1" # pinned
        args:
        - |
          line 1
          line 2
        - -c
        - yes
        resources: {limits: {cpu: 1.10}}
        readinessProbe: {httpGet: {path: /ready, port: 8080}}
      volumes:
      - name: cfg
        configMap:
          name: cfg
          defaultMode: 0644
      - name: tmp
        emptyDir:
`;

const SERVICE = `# a service, written oddly
apiVersion:   v1
kind: Service
metadata: {name: orders,   namespace: shop}
spec:
    ports:   [ {port: 80} ]
`;

describe('the text', () => {
  test('keeps what its author wrote, but for what is added', () => {
    const { text } = injectInto(DEPLOYMENT);
    const lost = DEPLOYMENT.split('\n').filter((line) => !text.includes(line.trim()));
    expect(lost.map((line) => line.trim())).toEqual([
      // In which labels are added.
      `labels: {app: orders, version: 'on', released: "1"}`,
      // Turned to the sidecar.
      'readinessProbe: {httpGet: {path: /ready, port: 8080}}',
    ]);
  });

  test('means what it meant to kubectl, but for what is added', () => {
    const [before] = documents(DEPLOYMENT);
    const [after] = documents(injectInto(DEPLOYMENT).text);
    expect(at(after, 'spec', 'template', 'spec', 'containers', 0)).toEqual({
      ...(at(before, 'spec', 'template', 'spec', 'containers', 0) as object),
      readinessProbe: { httpGet: { path: '/app-health/app/readyz', port: 15021 } },
    });
    const volumes = at(after, 'spec', 'template', 'spec', 'volumes') as readonly JsonValue[];
    expect(volumes.slice(0, 2)).toEqual(at(before, 'spec', 'template', 'spec', 'volumes'));
    expect(at(after, 'spec', 'template', 'metadata', 'labels')).toMatchObject({
      ...(at(before, 'spec', 'template', 'metadata', 'labels') as object),
      'postern.dev/workload': 'orders',
      'service.istio.io/canonical-revision': 'on',
    });
    expect(at(after, 'spec', 'template', 'metadata', 'annotations', 'prometheus.io/port')).toBe('15020');
  });

  test('of a second injection is that of the first', () => {
    const { text } = injectInto(DEPLOYMENT);
    expect(injectInto(text).text).toBe(text);
  });

  test('of documents without pods stays byte for byte', () => {
    const others = `%YAML 1.2\n---\n${SERVICE}---\n\n# nothing here\n---\n${SERVICE}`;
    expect(injectInto(others).text).toBe(others);
    const { text } = injectInto(`${SERVICE}---\n${DEPLOYMENT}---\n${SERVICE}...\n`);
    expect(text.startsWith(`${SERVICE}---\n`)).toBe(true);
    expect(text.endsWith(`---\n${SERVICE}...\n`)).toBe(true);
  });

  test('that is JSON stays JSON', () => {
    const [value] = documents(DEPLOYMENT);
    const { text } = injectInto(JSON.stringify(value));
    expect(at(JSON.parse(text), 'spec', 'template', 'spec', 'initContainers', 1, 'name')).toBe('postern-proxy');
    const service = '{"kind":"Service"}';
    expect(injectInto(service).text).toBe(service);
  });

  test('indents lists as its author does', () => {
    const indented = DEPLOYMENT.replace(/^(\s*)- /gm, '$1- ');
    expect(injectInto(indented).text).toContain('\n      initContainers:\n      - name: postern-init');
    const pod = 'apiVersion: v1\nkind: Pod\nmetadata:\n    name: a\nspec:\n    containers:\n      - name: app\n';
    expect(injectInto(pod).text).toMatch(/\n {4}initContainers:\n {6,8}- name: postern-init/);
  });
});

describe('pods are found', () => {
  const pod = 'spec: {containers: [{name: app}]}';
  test.each([
    ['Pod', `apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n${pod}`, []],
    [
      'StatefulSet',
      `apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\nspec: {template: {${pod}}}`,
      ['spec', 'template'],
    ],
    [
      'DaemonSet',
      `apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}\nspec: {template: {${pod}}}`,
      ['spec', 'template'],
    ],
    [
      'ReplicaSet',
      `apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: a}\nspec: {template: {${pod}}}`,
      ['spec', 'template'],
    ],
    ['Job', `apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: {${pod}}}`, ['spec', 'template']],
    [
      'CronJob',
      `apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec: {jobTemplate: {spec: {template: {${pod}}}}}`,
      ['spec', 'jobTemplate', 'spec', 'template'],
    ],
    [
      'a List',
      `apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}, ${pod}}`,
      ['items', 0],
    ],
  ] as const)('in %s', (_, text, path) => {
    const result = injectInto(text);
    const [document] = documents(result.text);
    expect(result.injected).toBe(1);
    expect(at(document, ...path, 'spec', 'initContainers', 1, 'name')).toBe('postern-proxy');
    expect(at(document, ...path, 'metadata', 'labels', 'postern.dev/workload')).toBe('a');
  });

  test.each([
    ['of other API groups', `apiVersion: other.dev/v1\nkind: Deployment\nspec: {template: {${pod}}}\n`],
    ['without a template', 'apiVersion: apps/v1\nkind: Deployment\nspec: {}\n'],
  ])('in no objects %s', (_, text) => {
    expect(injectInto(text)).toEqual({ text, injected: 0, notes: [] });
  });

  test('and left alone where they say so, with a note', () => {
    const text = DEPLOYMENT.replace('released: "1"', 'postern.dev/inject: disabled');
    const result = injectInto(text);
    expect(result.text).toBe(text);
    expect(result.notes).toEqual([
      'app.yaml:11:3: Deployment shop/orders: not injected: the pod says that it wants no sidecar',
    ]);
  });
});

describe('what is wrong', () => {
  const thrown = (text: string): PosternError => {
    try {
      injectInto(text);
    } catch (error) {
      if (error instanceof PosternError) return error;
      throw error;
    }
    throw new Error('nothing was thrown');
  };

  test('is said with its place in the file, all of it', () => {
    const text = DEPLOYMENT.replace('"x:1" # pinned', '"x:1"\n        ports: [{containerPort: 15001}]').replace(
      '      # keep me\n',
      '      securityContext: {runAsUser: 1337}\n',
    );
    const { code, exitCode, message } = thrown(`${SERVICE}---\n${text}`);
    expect([code, exitCode]).toEqual(['ERR_INJECT', 65]);
    expect(message.split('\n')).toEqual([
      'nothing was injected:',
      expect.stringMatching(/^app\.yaml:22:36: error: Deployment shop\/orders: container app has runAsUser 1337/),
      expect.stringMatching(/^app\.yaml:26:33: error: Deployment shop\/orders: container app uses port 15001/),
    ]);
  });

  test.each([
    ['a: [', 'app.yaml:1:5: error: '],
    [DEPLOYMENT.replace('"1"', '&v "1"'), 'YAML anchors and aliases are refused'],
    [DEPLOYMENT.replace('name: app\n', 'name: app\n        name: b\n'), 'stands twice'],
  ])('in the YAML as well', (text, message) => {
    expect(thrown(text).message).toContain(message);
  });
});

describe('the command', () => {
  const postern = (args: readonly string[], input = '') =>
    spawnSync('bin/postern', ['inject', ...args], { input, encoding: 'utf8' });

  test('reads a file or a stream, and writes what is to be applied to its output alone', () => {
    const file = join(directory, 'app.yaml');
    writeFileSync(file, DEPLOYMENT);
    const fromFile = postern([
      '-f',
      file,
      '--image',
      'postern:9',
      '--native-sidecar=false',
      '--trust-domain',
      'shop.example',
    ]);
    const fromStream = postern(
      ['-f', '-', '--image', 'postern:9', '--native-sidecar=false', '--trust-domain', 'shop.example'],
      DEPLOYMENT,
    );
    expect([fromFile.status, fromFile.stderr]).toEqual([0, '']);
    expect(fromStream.stdout).toBe(fromFile.stdout);
    const [document] = documents(fromFile.stdout);
    expect(at(document, 'spec', 'template', 'spec', 'containers', 0, 'image')).toBe('postern:9');
    expect(fromFile.stdout).toContain('"trustDomain":"shop.example"');
  });

  test("takes the control plane's settings for those of the mesh", () => {
    const config = join(directory, 'control-plane.yaml');
    writeFileSync(
      config,
      'trustDomain: mesh.example\nkubernetes: { injection: { image: "r.example/p:3", logLevel: warn } }\n',
    );
    const { stdout, status } = postern(['-f', '-', '--config', config, '--log-level', 'debug'], DEPLOYMENT);
    expect(status).toBe(0);
    expect(stdout).toContain('image: r.example/p:3');
    expect(stdout).toContain('"trustDomain":"mesh.example"');
    expect(stdout).toContain('"logLevel":"debug"');
  });

  test.each<[string, readonly string[], number, string]>([
    ['no file', ['--image', 'x'], 64, 'name a file of manifests'],
    ['no image', ['-f', '-'], 64, 'name the image of the sidecar'],
    ['an image that is none', ['-f', '-', '--image', 'my image:1'], 64, '--image must be an image such as'],
    ['a file that is not there', ['-f', '/nowhere/app.yaml', '--image', 'x'], 66, 'cannot read /nowhere/app.yaml'],
    [
      'a bad flag',
      ['-f', '-', '--image', 'x', '--control-plane', 'http://a'],
      64,
      '--control-plane must be an https origin',
    ],
    ['bad manifests', ['-f', '-', '--image', 'x'], 65, 'stdin:1:1: error: '],
  ])('%s ends with its exit code and a message', (_, args, status, message) => {
    const result = postern(args, args.includes('x') && args.length === 4 ? '&a b: c' : '');
    expect(result.stderr).toContain(message);
    expect([result.status, result.stdout]).toEqual([status, '']);
  });

  test('waits for what the program before it in a pipe has to say', () => {
    const pipe = `(sleep 0.5; cat "$0") | bin/postern inject -f - --image postern:9`;
    const file = join(directory, 'late.yaml');
    writeFileSync(file, DEPLOYMENT);
    const { stdout, status } = spawnSync('sh', ['-c', pipe, file], { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(stdout).toContain('image: postern:9');
  });

  test('reads no more than it may', () => {
    const { status, stderr } = postern(['-f', '-', '--image', 'x'], '#'.repeat(16 * 1024 * 1024 + 1));
    expect([status, stderr]).toEqual([65, 'postern: - is larger than 16777216 bytes: split it\n']);
  });

  test('lists every annotation', () => {
    const text = execFileSync('bin/postern', ['inject', '--annotations'], { encoding: 'utf8' });
    for (const { name } of ANNOTATIONS) expect(text).toContain(`| \`postern.dev/${name}\` |`);
  });
});

/** YAML, called .txt so that no formatter touches it. Read the difference before accepting it: `vitest -u` writes the files. */
describe('golden files', () => {
  test.each(['deployment', 'cronjob-ordinary'])('%s', async (name) => {
    const base = join(import.meta.dirname, 'inject', name);
    const settings = { ...SETTINGS, nativeSidecar: !name.endsWith('ordinary') };
    const { text } = injectText(readFileSync(`${base}.txt`, 'utf8'), `${name}.yaml`, { ...OPTIONS, settings });
    await expect(text).toMatchFileSnapshot(`${base}.injected.txt`);
  });
});
