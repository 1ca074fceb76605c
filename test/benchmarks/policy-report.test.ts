import { describe, expect, test } from 'vitest';
import { measurePolicy, type PolicyMeasurements } from '../../benchmarks/suites/policy.ts';
import { formatPolicy, jsonPolicy, reportPolicy } from '../../benchmarks/suites/policy-report.ts';
import { CALLER, WORKLOADS } from '../../benchmarks/suites/policy-workloads.ts';
import { compilePolicies } from '../../policy/authorization.ts';
import { validateObject } from '../../policy/index.ts';
import { MESH, ORDERS } from '../policy/objects.ts';

const cost = (small: number, middle: number, large: number) => ({ 10: [small], 1000: [middle], 10000: [large] });
const measured: PolicyMeasurements = {
  request: { by_caller: cost(400, 500, 600), by_path: cost(400, 2_500, 1_600) },
  connection: { by_caller: cost(200, 200, 9_000), by_path: cost(200, 200, 200) },
};

describe('the report of the policy suite', () => {
  test('begins with the ratio of the worst workload, then its nanoseconds', () => {
    const json = JSON.parse(JSON.stringify(jsonPolicy(reportPolicy(measured))));
    expect(Object.keys(json).slice(0, 2)).toEqual(['ratios', 'nanoseconds']);
    expect(json.ratios).toEqual({ decision_10000_to_10: 4 });
    expect(json.nanoseconds).toEqual({ decision_10: 400, decision_1000: 2_500, decision_10000: 1_600 });
    expect(json.detail.by_caller).toMatchObject({ ratio: 1.5, reached: true });
    expect(json.detail.by_path.reached).toBe(false);
    expect(json.connection.by_caller.reached).toBeNull();
  });

  test('shows each workload with its targets', () => {
    const [, , caller = '', path = ''] = formatPolicy(reportPolicy(measured)).split('\n');
    expect(caller).toMatch(/^a request, rules for other callers .* 500 ns .*≤ 2000 +yes +1\.5 .*≤ 3 +yes$/);
    expect(path).toMatch(/≤ 2000 +NO +4 .*≤ 3 +NO$/);
  });
});

describe.each(Object.entries(WORKLOADS))('the workload %s', (_, workload) => {
  test('is of admissible policies, of as many rules as it says', () => {
    const policies = workload.policies(1_000);
    expect(policies.flatMap(validateObject).filter(({ severity }) => severity === 'error')).toEqual([]);
    const rules = policies.map(({ spec }) => (spec as { readonly rules: readonly unknown[] }).rules.length);
    expect(rules.reduce((sum, count) => sum + count, 0)).toBe(1_000);
  });

  test('has at most two rules that concern a request, and requests that are allowed and denied', () => {
    const compiled = compilePolicies(workload.policies(1_000), ORDERS, MESH);
    const requests = Array.from({ length: 16 }, (_, index) => workload.request(index));
    for (const request of requests) {
      expect(compiled.candidates(CALLER, request, workload.claims)).toBeLessThanOrEqual(2);
    }
    const verdicts = requests.map((request) => compiled.forConnection(CALLER).decide(request, workload.claims).reason);
    expect(new Set(verdicts)).toContain('allow-policy');
    expect(new Set(verdicts)).toContain('deny-policy');
  });
});

test('a run measures every workload at every size in each round', async () => {
  const plan = { rounds: 1, limitMs: 10_000, decisions: 500 };
  const { request, connection } = await measurePolicy(plan, new AbortController().signal, () => undefined);
  for (const costs of [request, connection]) {
    expect(Object.keys(costs)).toEqual(Object.keys(WORKLOADS));
    for (const one of Object.values(costs)) {
      expect(Object.values(one)).toEqual([[expect.any(Number)], [expect.any(Number)], [expect.any(Number)]]);
    }
  }
});
