import { expect, test } from 'vitest';
import { PolicyEvents } from '../../../../control-plane/kubernetes/leader/policy-events.ts';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import type { KubernetesApi } from '../../../../kubernetes/api/types.ts';
import type { JsonObject } from '../../../../policy/types.ts';
import { eventually } from '../../../support/eventually.ts';
import { objectOf } from '../../registry/support.ts';

const policy = (namespace: string, name = 'p') =>
  objectOf('security.istio.io/v1', 'AuthorizationPolicy', namespace, name, {});

test('a namespace that takes no Events does not keep those of others back', async () => {
  const told: string[] = [];
  const warnings: string[] = [];
  const create = async (_type: unknown, namespace: string): Promise<JsonObject> => {
    if (namespace === 'ending') throw new KubernetesError('Forbidden', 403, 'the namespace is being terminated');
    told.push(namespace);
    return {};
  };
  const policies: ReturnType<typeof policy>[] = [];
  const events = new PolicyEvents({
    api: { create } as unknown as KubernetesApi,
    pod: 'a',
    policies: () => policies,
    errorOf: () => 'not good',
    enforcement: async () => new Map(),
    log: { warn: (text: string) => void warnings.push(text) } as never,
    intervalMs: 5,
  });
  const term = new AbortController();
  events.lead(term.signal);
  // More than one round tells of.
  policies.push(...Array.from({ length: 60 }, (_, index) => policy('ending', `p${index}`)), policy('shop'));
  await eventually(() => told.includes('shop'), { what: 'the Event in the other namespace' });
  term.abort();
  expect(told).toEqual(['shop']);
  expect(warnings).toHaveLength(60);
});
