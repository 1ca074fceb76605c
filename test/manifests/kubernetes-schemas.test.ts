import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { everythingInstallable, renderInstallation } from '../../cli/install/manifests.ts';
import { type Identity, identityOf, titleOf } from '../../kubernetes/install/identity.ts';
import { parseYaml } from '../../policy/index.ts';
import { asObject } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { ROOT } from '../repository/source-tree.ts';
import { run } from '../support/child.ts';

/** Kubernetes' published schemas have these; kinds of others (Istio's, the Prometheus operator's, ours) they do not. */
const BUILT_IN = /^(v1|[a-z]+\/v[0-9]+|[a-z.]+\.k8s\.io\/v[0-9]+)$/;

const SAMPLES = join(ROOT, 'manifests', 'kubernetes', 'samples', 'shop');
const samples = readdirSync(SAMPLES)
  .filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml')
  .flatMap((name) => parseYaml(readFileSync(join(SAMPLES, name), 'utf8'), name).documents)
  .map(({ value }) => asObject(value))
  .filter((object) => object !== null);

const objects = [
  ...everythingInstallable(),
  ...renderInstallation({ overlay: 'single', components: [], settings: [] }),
  ...samples,
]
  .map((object) => ({ object, identity: identityOf(object) }))
  .filter(({ identity }) => BUILT_IN.test(identity.apiVersion));

type Model = new (object: JsonObject) => { validate(): void };

describe.each(objects.map((one) => [titleOf(one.identity), one] as const))('%s', (_, { object, identity }) => {
  test('is valid by its published schema', async () => {
    const models = (await import(`kubernetes-models/${identity.apiVersion}`)) as { readonly [kind: string]: Model };
    const Kind = models[identity.kind];
    expect(Kind).toBeDefined();
    if (Kind !== undefined) expect(() => new Kind(object).validate()).not.toThrow();
  });
});

/**
 * A schema accepts fields that it does not know; an API server drops them, or refuses the object. The types that are made of the schemas do know: an
 * object literal may have no other property than its type.
 */
describe('no manifest has a field that Kubernetes does not know', () => {
  const directory = mkdtempSync(join(tmpdir(), 'postern-schemas-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  beforeAll(() => {
    symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
    const compilerOptions = {
      noEmit: true,
      strict: true,
      exactOptionalPropertyTypes: true,
      target: 'esnext',
      module: 'nodenext',
      skipLibCheck: true,
      types: [],
    };
    writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
  });

  const complaints = async (all: readonly { object: JsonObject; identity: Identity }[]): Promise<readonly string[]> => {
    const text = all.map(({ object, identity: { apiVersion, kind } }, index) =>
      [
        `import type { I${kind} as Type${index} } from 'kubernetes-models/${apiVersion}';`,
        `export const object${index}: Type${index} = ${JSON.stringify(object, null, 1)};`,
      ].join('\n'),
    );
    writeFileSync(join(directory, 'manifests.ts'), text.join('\n'));
    const { stdout } = await run(
      join(ROOT, 'node_modules', '.bin', 'tsc'),
      ['-p', directory, '--pretty', 'false'],
      120_000,
    );
    return stdout.split('\n').filter((line) => line.includes('error TS'));
  };

  test('in all of them', async () => {
    expect(await complaints(objects)).toEqual([]);
  });

  test('and such a field would be found, wherever it stands', async () => {
    const [deployment] = objects.filter(({ identity }) => identity.kind === 'Deployment');
    const text = JSON.stringify(deployment?.object).replace('"readOnlyRootFilesystem"', '"readonlyRootFilesystem"');
    const object = JSON.parse(text) as JsonObject;
    const found = await complaints([{ object, identity: identityOf(object) }]);
    expect(found).toEqual([expect.stringContaining('readonlyRootFilesystem')]);
  });
});
