import { describe, expect, test } from 'vitest';
import { duplicateManifests, parseManifests, validateManifest } from '../../policy/index.ts';

const POLICY = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: allow-frontend
  namespace: shop
spec:
  rules:
  - from:
    - source:
        ipBlocks: [10.0.0.0/33]
`;
const parse = (text: string, file = 'f.yaml') => parseManifests(text, file);

test('a manifest has its kind, namespace and name, and every problem its place', () => {
  const { manifests, problems } = parse(`# first line\n${POLICY}`);
  expect(problems).toEqual([]);
  expect(manifests).toMatchObject([
    { apiVersion: 'security.istio.io/v1', kind: 'AuthorizationPolicy', namespace: 'shop', name: 'allow-frontend' },
  ]);
  expect(manifests.flatMap(validateManifest)).toEqual([
    {
      severity: 'error',
      message: '"10.0.0.0/33" is neither an IP address nor a CIDR block',
      location: { file: 'f.yaml', line: 11, column: 20 },
      resource: 'AuthorizationPolicy shop/allow-frontend',
    },
  ]);
});

test('what is wrong with a key is told where the key stands, not its value', () => {
  const { manifests } = parse(
    POLICY.replace('spec:\n', 'spec:\n  acton: DENY\n  selector: {matchLabels: {"a*": b}}\n'),
  );
  expect(manifests.flatMap(validateManifest)).toMatchObject([
    { message: expect.stringContaining('unknown field "acton"'), location: { line: 7, column: 3 } },
    { message: expect.stringContaining('"*" is not allowed'), location: { line: 8, column: 28 } },
    { message: expect.stringContaining('CIDR block'), location: { line: 12, column: 20 } },
  ]);
});

test('a manifest without a namespace is in default', () => {
  expect(parse('apiVersion: v1\nkind: Service\nmetadata: {name: a}\n').manifests[0]?.namespace).toBe('default');
});

test('several documents, and empty ones between them', () => {
  const { manifests, problems } = parse(
    `---\n${POLICY}---\n# nothing\n---\n${POLICY.replace('allow-frontend', 'b')}---\n`,
  );
  expect(problems).toEqual([]);
  expect(manifests.map(({ name }) => name)).toEqual(['allow-frontend', 'b']);
});

test('a List is unwrapped, with places inside it', () => {
  const list = `apiVersion: v1\nkind: List\nitems:\n- ${POLICY.replaceAll('\n', '\n  ')}`;
  const { manifests, problems } = parse(list);
  expect(problems).toEqual([]);
  expect(manifests.flatMap(validateManifest)[0]?.location).toEqual({ file: 'f.yaml', line: 13, column: 22 });
  expect(parse('{"apiVersion":"v1","kind":"List"}')).toEqual({ manifests: [], problems: [] });
});

describe('what is not a manifest', () => {
  test.each<[string, string, string]>([
    ['a list', '- a\n', 'a manifest must be a map'],
    ['a text', 'hello\n', 'a manifest must be a map'],
    ['without a kind', 'apiVersion: v1\nmetadata: {name: a}\n', 'needs an apiVersion and a kind'],
    [
      'an unknown kind',
      'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n',
      'unknown kind "Deployment" of "apps/v1"; known are AuthorizationPolicy (security.istio.io/v1',
    ],
    [
      'an unknown version',
      'apiVersion: security.istio.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n',
      'known are security.istio.io/v1, security.istio.io/v1beta1',
    ],
    ['another group', 'apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n', 'unknown apiVersion'],
    ['without a name', 'apiVersion: v1\nkind: Service\nmetadata: {}\n', 'needs a metadata.name'],
    ['a name that is a number', 'apiVersion: v1\nkind: Service\nmetadata: {name: 5}\n', 'needs a metadata.name'],
    [
      'a namespace that is a number',
      'apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: 5}\n',
      'metadata.namespace',
    ],
    ['a List in a List', 'apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List}\n', 'unknown kind "List"'],
    ['a List of something else', 'apiVersion: v1\nkind: List\nitems: {}\n', 'items of a List must be a list'],
  ])('%s', (_, text, expected) => {
    const { manifests, problems } = parse(text);
    expect(manifests).toEqual([]);
    expect(problems).toHaveLength(1);
    expect(problems[0]?.message).toContain(expected);
  });
});

describe('objects that stand twice', () => {
  const older = POLICY.replace('security.istio.io/v1', 'security.istio.io/v1beta1');

  test('in one file, in whatever version: the second is reported and left out', () => {
    const { manifests, problems } = parse(`${POLICY}---\n${older}`);
    expect(manifests).toHaveLength(1);
    expect(problems).toMatchObject([
      {
        severity: 'error',
        message: expect.stringContaining('f.yaml:1'),
        location: { line: 12 },
        resource: 'AuthorizationPolicy shop/allow-frontend',
      },
    ]);
  });

  test('in two files', () => {
    const manifests = [...parse(POLICY, 'a.yaml').manifests, ...parse(older, 'b.yaml').manifests];
    expect(duplicateManifests(manifests)).toMatchObject([
      {
        manifest: { apiVersion: 'security.istio.io/v1beta1' },
        problem: { message: expect.stringContaining('a.yaml:1'), location: { file: 'b.yaml' } },
      },
    ]);
  });

  test('of one name but another namespace or kind are different', () => {
    const other = POLICY.replace('namespace: shop', 'namespace: pay');
    const peer =
      'apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: allow-frontend, namespace: shop}\n';
    expect(parse(`${POLICY}---\n${other}---\n${peer}`).problems).toEqual([]);
  });

  test('of MeshConfig there is one, whatever its name', () => {
    const mesh = (name: string): string => `apiVersion: postern.dev/v1\nkind: MeshConfig\nmetadata: {name: ${name}}\n`;
    expect(parse(`${mesh('a')}---\n${mesh('b')}`).problems[0]?.message).toContain('there can be one MeshConfig');
  });
});
