import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatBaggage, parseBaggage, UNKNOWN_BAGGAGE } from '../../../proxy/protocol/baggage.ts';

const orders = {
  cluster: 'Kubernetes',
  namespace: 'shop',
  workloadName: 'orders',
  canonicalService: 'orders',
  canonicalRevision: 'v1',
};

test('a workload is written in the members and the order of ztunnel, and read back', () => {
  const header = formatBaggage(orders);
  expect(header).toBe(
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=orders,service.name=orders,service.version=v1',
  );
  expect(parseBaggage(header)).toEqual(orders);
});

test.each(['deployment', 'pod', 'job', 'cronjob'])('a workload of type %s is named', (type) => {
  expect(parseBaggage(`k8s.${type}.name=w1`).workloadName).toBe('w1');
});

test('whitespace, properties and foreign members are allowed', () => {
  expect(parseBaggage('cloud.region=eu , service.name = a ;p=1;q,\tk8s.namespace.name=n')).toEqual({
    ...UNKNOWN_BAGGAGE,
    canonicalService: 'a',
    namespace: 'n',
  });
});

test.each(['', 'a%20b', 'a/b', 'x'.repeat(64), 'ü'])('the value %j becomes unknown, both ways', (value) => {
  expect(parseBaggage(`service.name=${value},service.version=v1`)).toEqual({
    ...UNKNOWN_BAGGAGE,
    canonicalRevision: 'v1',
  });
  expect(formatBaggage({ ...orders, canonicalService: value })).toContain('service.name=unknown,');
});

describe('a header that says nothing at all', () => {
  test.each([
    ['empty', ''],
    ['not a member', 'service.name'],
    ['a member without a key', '=x'],
    ['an empty member', 'service.name=a,,service.version=v'],
    ['a quoted value', 'service.name="a"'],
    ['one of ours twice', 'service.name=a,service.name=b'],
    ['the workload under two types', 'k8s.pod.name=a,k8s.job.name=b'],
    ['too many members', Array.from({ length: 17 }, (_, i) => `k${i}=v`).join(',')],
    ['too long', `service.name=a,x=${'y'.repeat(1024)}`],
  ])('%s', (_, header) => {
    expect(parseBaggage(header)).toEqual(UNKNOWN_BAGGAGE);
  });
});

test('no header makes a value that is not fit for a label, or throws', () => {
  fc.assert(
    fc.property(
      fc.string({ maxLength: 200 }),
      fc.constantFrom('service.name=', 'k8s.pod.name=', ''),
      (text, prefix) => {
        for (const value of Object.values(parseBaggage(prefix + text))) expect(value).toMatch(/^[A-Za-z0-9._-]{1,63}$/);
      },
    ),
    { numRuns: 300 },
  );
});
