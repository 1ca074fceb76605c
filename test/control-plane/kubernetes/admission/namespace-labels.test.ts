import { expect, test } from 'vitest';
import { NamespaceLabels } from '../../../../control-plane/kubernetes/admission/namespace-labels.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import type { JsonObject } from '../../../../policy/types.ts';

function labels(stored: { readonly [name: string]: { readonly [key: string]: string } } = {}) {
  const asked: string[] = [];
  const clock = { now: 0 };
  const get = async (_type: unknown, { name }: { readonly name: string }): Promise<JsonObject> => {
    asked.push(name);
    const found = stored[name];
    if (found === undefined) throw new KubernetesError('NotFound', 404, 'no such namespace');
    return { metadata: { name, labels: found } };
  };
  const known = (name: string) => (name === 'shop' ? { known: 'yes' } : null);
  const all = new NamespaceLabels({ api: { get }, known, now: () => clock.now });
  return { of: (name: string, fresh = false) => all.of(name, { fresh }), asked, clock };
}

test('a namespace that is known is not asked for; one that is not is, once a review', async () => {
  const { of, asked } = labels({ young: { 'postern.dev/inject': 'enabled' } });
  expect(await of('shop')).toEqual({ known: 'yes' });
  expect(asked).toEqual([]);
  expect(await of('shop', true)).toBeNull();
  expect(asked.splice(0)).toEqual(['shop']);
  expect(await of('young')).toEqual({ 'postern.dev/inject': 'enabled' });
  expect(await of('none')).toBeNull();
  expect(asked).toEqual(['young', 'none']);
});

test.each(['', '..', '../pods', 'a/b', 'A', 'x'.repeat(64), 'a?b'])(
  '%j is no namespace, and not asked for',
  async (name) => {
    const { of, asked } = labels();
    expect(await of(name)).toBeNull();
    expect(asked).toEqual([]);
  },
);

test('whoever names namespaces without end makes the API server answer some of it only', async () => {
  const { of, asked, clock } = labels();
  for (let index = 0; index < 1_000; index++) expect(await of(`n${index}`)).toBeNull();
  expect(asked).toHaveLength(100);
  clock.now += 1_000;
  for (let index = 0; index < 100; index++) await of(`m${index}`);
  expect(asked).toHaveLength(120);
});
