import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseAllDocuments, stringify } from 'yaml';
import { identityOf, titleOf } from '../../../kubernetes/install/identity.ts';
import { renderKustomizations } from '../../../kubernetes/install/kustomization.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { ROOT } from '../../repository/source-tree.ts';
import { foreignToolTests, runTool } from '../../support/tools.ts';

const directory = mkdtempSync(join(tmpdir(), 'postern-kustomize-'));
afterAll(() => rmSync(directory, { recursive: true }));

const MANIFESTS = join(ROOT, 'manifests');
const COMPONENTS = ['external-ca', 'istio-labels', 'prometheus-operator'];
const byTitle = (objects: readonly JsonObject[]): ReadonlyMap<string, JsonObject> =>
  new Map(objects.map((object) => [titleOf(identityOf(object)), object]));

/** Files of a kustomization of its own; its directory. */
function written(files: { readonly [path: string]: unknown }): string {
  const root = mkdtempSync(join(directory, 'case-'));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), typeof content === 'string' ? content : stringify(content));
  }
  return root;
}

foreignToolTests('kubectl')('the renderer and kubectl kustomize', () => {
  test.each([
    { resources: ['overlays/single'], components: [] },
    { resources: ['overlays/ha'], components: [] },
    { resources: ['istio-crds'], components: [] },
    ...COMPONENTS.map((component) => ({ resources: ['overlays/single'], components: [component] })),
    { resources: ['overlays/ha', 'istio-crds'], components: COMPONENTS },
  ])('make the same of $resources with $components', async ({ resources, components }) => {
    const root = written({
      'kustomization.yaml': {
        resources: resources.map((path) => `manifests/kubernetes/${path}`),
        components: components.map((name) => `manifests/kubernetes/components/${name}`),
      },
    });
    // kustomize reads nothing outside of the directory it is given.
    cpSync(MANIFESTS, join(root, 'manifests'), { recursive: true });
    const { stdout } = await runTool('kubectl', 'kustomize', root);
    const theirs = parseAllDocuments(stdout).map((document) => document.toJS() as JsonObject);
    const kubernetes = join(MANIFESTS, 'kubernetes');
    const ours = renderKustomizations(
      resources.map((path) => join(kubernetes, path)),
      components.map((name) => join(kubernetes, 'components', name)),
    );
    expect(byTitle(ours)).toEqual(byTitle(theirs));
  });
});

const DEPLOYMENT = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace: 'shop' },
  spec: {
    replicas: 1,
    template: {
      spec: {
        containers: [
          { name: 'a', image: 'a:1' },
          { name: 'b', image: 'b:1' },
        ],
      },
    },
  },
};

describe('a kustomization', () => {
  const renderPatched = (patch: unknown): readonly JsonObject[] =>
    renderKustomizations([
      written({
        'kustomization.yaml': { resources: ['web.yaml'], patches: [{ path: 'patch.yaml' }] },
        'web.yaml': DEPLOYMENT,
        'patch.yaml': patch,
      }),
    ]);
  const patchOf = (spec: unknown) => ({ ...DEPLOYMENT, spec });

  test('is patched by merging: containers by name, null removes', () => {
    const [web] = renderPatched(
      patchOf({ replicas: null, template: { spec: { containers: [{ name: 'b', image: 'b:2' }, { name: 'c' }] } } }),
    );
    expect(web?.spec).toEqual({
      template: { spec: { containers: [{ name: 'c' }, { name: 'a', image: 'a:1' }, { name: 'b', image: 'b:2' }] } },
    });
  });

  test.each([
    ['a directive', patchOf({ $patch: 'replace' }), /directive \$patch/],
    ['an object that is not there', { ...patchOf({}), metadata: { name: 'other' } }, /there is no Deployment other/],
  ])('cannot be patched by %s', (_, patch, message) => {
    expect(() => renderPatched(patch)).toThrow(message);
  });

  test('does not guess how a list of maps is merged', () => {
    const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a' }, spec: { ports: [{ port: 80 }] } };
    const root = written({
      'kustomization.yaml': { resources: ['a.yaml'], patches: [{ path: 'patch.yaml' }] },
      'a.yaml': service,
      'patch.yaml': { ...service, spec: { ports: [{ port: 81 }] } },
    });
    expect(() => renderKustomizations([root])).toThrow(/how the items of ports are told apart/);
  });

  const withPatch = (operations: unknown) =>
    written({
      'kustomization.yaml': {
        resources: ['web.yaml'],
        patches: [{ target: { kind: 'Deployment', name: 'web' }, patch: stringify(operations) }],
      },
      'web.yaml': DEPLOYMENT,
    });

  test('is patched by JSON Patch where something is there to be replaced', () => {
    const [web] = renderKustomizations([withPatch([{ op: 'replace', path: '/spec/replicas', value: 2 }])]);
    expect(web?.spec).toMatchObject({ replicas: 2, template: {} });
    const absent = withPatch([{ op: 'replace', path: '/spec/replica', value: 2 }]);
    expect(() => renderKustomizations([absent])).toThrow(/nothing at \/spec\/replica/);
    const other = withPatch([{ op: 'remove', path: '/spec/replicas' }]);
    expect(() => renderKustomizations([other])).toThrow(/replace/);
  });

  test('is refused where it asks for what the renderer does not know, rather than rendered without', () => {
    const images = written({ 'kustomization.yaml': { resources: ['web.yaml'], images: [] }, 'web.yaml': DEPLOYMENT });
    expect(() => renderKustomizations([images])).toThrow(/images is not understood/);
    const selectors = { resources: ['web.yaml'], labels: [{ pairs: { a: 'b' }, includeSelectors: true }] };
    const labels = written({ 'kustomization.yaml': selectors, 'web.yaml': DEPLOYMENT });
    expect(() => renderKustomizations([labels])).toThrow(/includeSelectors is not understood/);
  });

  test('names each object once', () => {
    const twice = { resources: ['a.yaml', 'b.yaml'] };
    const root = written({ 'kustomization.yaml': twice, 'a.yaml': DEPLOYMENT, 'b.yaml': DEPLOYMENT });
    expect(() => renderKustomizations([root])).toThrow(/two manifests/);
  });

  test('that includes itself ends', () => {
    const root = written({
      'kustomization.yaml': { resources: ['sub'] },
      'sub/kustomization.yaml': { resources: ['../sub'] },
    });
    expect(() => renderKustomizations([root])).toThrow(/within each other/);
  });
});
