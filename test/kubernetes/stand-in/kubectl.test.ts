import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Child, type Finished, finish } from '../../support/child.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { at, objectsAt, textAt, uidOf } from '../../support/kubernetes/objects.ts';
import { foreignToolTests, pathOf } from '../../support/tools.ts';

const WEB = `
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
      - name: a
        image: example/a:1
        ports: [{ containerPort: 80, name: http }]
        env: [{ name: A, value: "1" }, { name: B, value: "2" }]
      - { name: b, image: "example/b:1" }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ name: http, port: 80, targetPort: http }] }
`;

const THINGS = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: things.example.dev }
spec:
  group: example.dev
  names: { kind: Thing, plural: things, singular: thing, shortNames: [th] }
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: { status: {} }
    additionalPrinterColumns:
    - { name: Size, type: integer, jsonPath: .spec.size }
    - { name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status' }
    - { name: Note, type: string, jsonPath: .spec.note, priority: 1 }
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: { size: { type: integer }, note: { type: string } }
          status: { type: object, x-kubernetes-preserve-unknown-fields: true }
`;

const THING = 'apiVersion: example.dev/v1\nkind: Thing\nmetadata: { name: one }\nspec: { size: 3, note: abc }\n';

// The same client that operators use holds the stand-in to the protocol.
foreignToolTests('kubectl')('kubectl', () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-kubectl-'));
  let cluster: StandInCluster;

  beforeAll(async () => {
    cluster = await StandInCluster.start();
    cluster.kubeconfig(join(directory, 'config'));
    for (const [name, text] of Object.entries({ web: WEB, things: THINGS, thing: THING })) file(name, text);
  });

  afterAll(async () => {
    await cluster.stop();
    rmSync(directory, { recursive: true });
  });

  const file = (name: string, text: string): string => {
    const path = join(directory, `${name}.yaml`);
    writeFileSync(path, text);
    return path;
  };

  const attempt = async (...args: readonly string[]): Promise<Finished> => {
    // Its cache of discovery lies in HOME.
    const environment = {
      HOME: directory,
      KUBECONFIG: join(directory, 'config'),
      KUBECACHEDIR: join(directory, 'cache'),
    };
    const child = Child.start(`kubectl ${args.join(' ')}`, pathOf('kubectl'), args, environment);
    return await finish(child, 20_000);
  };

  const kubectl = async (...args: readonly string[]): Promise<string> => {
    const done = await attempt(...args);
    expect(done, done.stderr).toMatchObject({ code: 0 });
    return done.stdout;
  };

  const rows = (table: string): readonly (readonly string[])[] =>
    table.split('\n').map((line) => line.trim().split(/\s{2,}/));

  test('sees the version, the kinds and the namespaces', async () => {
    expect(await kubectl('version')).toContain('Server Version: v1.32.0');
    expect(await kubectl('api-resources')).toMatch(
      /poddisruptionbudgets\s+pdb\s+policy\/v1\s+true\s+PodDisruptionBudget/,
    );
    expect(rows(await kubectl('get', 'namespaces')).map(([name, status]) => [name, status])).toContainEqual([
      'kube-system',
      'Active',
    ]);
  });

  test('applies, changes nothing when it applies again, and merges what others changed', async () => {
    expect(await kubectl('apply', '-f', join(directory, 'web.yaml'))).toBe(
      'deployment.apps/web created\nservice/web created',
    );
    expect(await kubectl('apply', '-f', join(directory, 'web.yaml'))).toBe(
      'deployment.apps/web unchanged\nservice/web unchanged',
    );
    await kubectl(
      'patch',
      'deployment',
      'web',
      '-p',
      '{"spec":{"template":{"spec":{"containers":[{"name":"b","image":"example/b:2"}]}}}}',
    );
    const changed = WEB.replace('{ name: A, value: "1" }, ', '')
      .replace('example/a:1', 'example/a:2')
      .replace('      - { name: b, image: "example/b:1" }\n', '');
    expect(await kubectl('apply', '-f', file('changed', changed))).toContain('deployment.apps/web configured');
    const deployment = cluster.direct.get({ apiVersion: 'apps/v1', kind: 'Deployment' }, 'default', 'web') ?? {};
    expect(objectsAt(deployment, 'spec', 'template', 'spec', 'containers')).toMatchObject([
      { name: 'a', image: 'example/a:2', env: [{ name: 'B', value: '2' }] },
    ]);
  });

  test('says what is wrong with an unknown field, since the server does', async () => {
    await kubectl('apply', '-f', join(directory, 'things.yaml'));
    const refused = await attempt('apply', '-f', file('unknown', THING.replace('note', 'remark')));
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining('strict decoding error: unknown field "spec.remark"'),
    ]);
  });

  test('prints the columns of a custom kind, waits for its conditions, and deletes it', async () => {
    await kubectl('apply', '-f', join(directory, 'things.yaml'));
    await kubectl('wait', '--for=condition=Established', 'crd/things.example.dev', '--timeout=10s');
    await kubectl('apply', '-f', join(directory, 'thing.yaml'));
    expect(rows(await kubectl('get', 'th', '-o', 'wide'))).toEqual([
      ['NAME', 'SIZE', 'READY', 'NOTE'],
      ['one', '3', 'abc'],
    ]);
    const waiting = kubectl('wait', '--for=condition=Ready', 'thing/one', '--timeout=15s');
    await kubectl(
      'patch',
      'thing',
      'one',
      '--subresource=status',
      '--type=merge',
      '-p',
      '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}',
    );
    expect(await waiting).toContain('condition met');
    expect(rows(await kubectl('get', 'things'))[1]).toEqual(['one', '3', 'True']);
    await kubectl('patch', 'thing', 'one', '--type=json', '-p', '[{"op":"replace","path":"/spec/size","value":4}]');
    expect(await kubectl('get', 'thing', 'one', '-o', 'jsonpath={.spec.size}')).toBe('4');
    expect(await kubectl('delete', 'thing', 'one')).toContain('deleted');
    expect((await attempt('get', 'thing', 'one')).stderr).toContain(
      'Error from server (NotFound): things.example.dev "one" not found',
    );
  });

  test('applies server-side, and reports conflicts', async () => {
    await kubectl('apply', '-f', join(directory, 'things.yaml'));
    await kubectl('apply', '-f', join(directory, 'thing.yaml'));
    expect(await kubectl('apply', '--server-side', '-f', join(directory, 'thing.yaml'))).toContain(
      'serverside-applied',
    );
    const other = file('other', THING.replace('size: 3', 'size: 5'));
    const refused = await attempt('apply', '--server-side', '--field-manager=other', '-f', other);
    expect(refused.stderr).toContain(
      'Apply failed with 1 conflict: conflict with "kubectl" using example.dev/v1: .spec.size',
    );
    await kubectl('apply', '--server-side', '--field-manager=other', '--force-conflicts', '-f', other);
    expect(await kubectl('get', 'thing', 'one', '-o', 'jsonpath={.spec.size}')).toBe('5');
  });

  test('watches, and sees what changes', async () => {
    await kubectl('create', 'configmap', 'watched', '--from-literal=a=b');
    const waiting = kubectl('wait', '--for=jsonpath={.data.a}=c', 'configmap/watched', '--timeout=15s');
    await kubectl('patch', 'configmap', 'watched', '--type=merge', '-p', '{"data":{"a":"c"}}');
    expect(await waiting).toContain('condition met');
  });

  describe('as one of few rights', () => {
    test('asks what it may do', async () => {
      await kubectl('create', 'serviceaccount', 'limited');
      cluster.apply(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: limited }
rules: [{ apiGroups: [""], resources: [pods], verbs: [list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: limited }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: limited }
subjects: [{ kind: ServiceAccount, name: limited }]
`);
      const token = await kubectl('create', 'token', 'limited', '--duration=1h');
      expect(token).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+$/);
      const as = ['--as', 'system:serviceaccount:default:limited'];
      expect(await kubectl('auth', 'can-i', 'list', 'pods', ...as)).toBe('yes');
      expect((await attempt('auth', 'can-i', 'get', 'secrets', ...as)).stdout).toBe('no');
      cluster.kubeconfig(join(directory, 'limited'), { token });
      const limited = ['--kubeconfig', join(directory, 'limited')];
      expect(await kubectl('auth', 'whoami', '-o', 'jsonpath={.status.userInfo.username}', ...limited)).toBe(
        'system:serviceaccount:default:limited',
      );
      const refused = await attempt('get', 'secrets', ...limited);
      expect(refused.stderr).toContain(
        'Error from server (Forbidden): secrets is forbidden: User "system:serviceaccount:default:limited" cannot list resource "secrets"',
      );
    });

    test('gets a token that is bound to a pod', async () => {
      cluster.apply(`
apiVersion: v1
kind: Pod
metadata: { name: bound }
spec: { serviceAccountName: default, containers: [{ name: a }] }
`);
      const bound = ['--bound-object-kind', 'Pod', '--bound-object-name', 'bound'];
      cluster.kubeconfig(join(directory, 'bound'), { token: await kubectl('create', 'token', 'default', ...bound) });
      const whoami = ['--kubeconfig', join(directory, 'bound'), 'auth', 'whoami', '-o', 'json'];
      const user = at(JSON.parse(await kubectl(...whoami)), 'status', 'userInfo', 'extra');
      expect(user).toMatchObject({ 'authentication.kubernetes.io/pod-name': ['bound'] });
    });

    test('is known by a client certificate', async () => {
      cluster.kubeconfig(join(directory, 'carol'), cluster.clientCertificate('carol', ['system:masters']));
      expect(
        await kubectl(
          '--kubeconfig',
          join(directory, 'carol'),
          'auth',
          'whoami',
          '-o',
          'jsonpath={.status.userInfo.username}',
        ),
      ).toBe('carol');
    });
  });

  test('deletes a namespace and all that is in it', async () => {
    await kubectl('create', 'namespace', 'brief');
    await kubectl('create', 'secret', 'generic', 's', '--from-literal=a=b', '-n', 'brief');
    expect(textAt(cluster.direct.get({ apiVersion: 'v1', kind: 'Secret' }, 'brief', 's') ?? {}, 'data', 'a')).toBe(
      'Yg==',
    );
    expect(await kubectl('delete', 'namespace', 'brief', '--timeout=15s')).toContain('deleted');
    expect(cluster.direct.list({ apiVersion: 'v1', kind: 'Secret' }, 'brief')).toEqual([]);
  });

  test('shows events and descriptions', async () => {
    const [told] = cluster.apply([{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'told' } }]);
    // kubectl asks for the events of this very object.
    const uid = uidOf(told ?? {});
    cluster.apply([
      {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { name: 'told.1' },
        eventTime: '2026-01-01T00:00:00.000000Z',
        reportingController: 'example.dev/x',
        reason: 'Accepted',
        type: 'Normal',
        note: 'all is well',
        regarding: { apiVersion: 'v1', kind: 'ConfigMap', namespace: 'default', name: 'told', uid },
      },
    ]);
    expect(await kubectl('get', 'events')).toContain('all is well');
    expect(await kubectl('describe', 'configmap', 'told')).toContain('all is well');
  });

  test('reads what a dry run on the server would give, which leaves nothing', async () => {
    const output = await kubectl('create', 'configmap', 'dry', '--dry-run=server', '-o', 'json');
    expect(at(JSON.parse(output), 'metadata', 'uid')).toBeDefined();
    expect((await attempt('get', 'configmap', 'dry')).code).toBe(1);
  });
});
