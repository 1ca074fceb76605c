import { describe, expect, test } from 'vitest';
import { parseInterceptOptions, type RawInterceptOptions } from '../../mesh/intercept/options.ts';
import { outboundTargets, requireRedirected, verdict } from '../../proxy/intercept/validate.ts';

const OWNER = { uid: 0, gid: 0, mark: 0 };
const targets = (raw: RawInterceptOptions, family: 4 | 6, neighbours: string[] = []): string[] =>
  outboundTargets(parseInterceptOptions(raw), family, { owner: OWNER, neighbours }).map(
    ({ address, port }) => `${address} ${port}`,
  );

describe('what a probe dials', () => {
  test('is an address of nobody, where the lists allow it', () => {
    expect(targets({}, 4)[0]).toBe('192.0.2.1 20001');
    expect(targets({}, 6)[0]).toBe('2001:db8::1 20001');
    expect(targets({ excludeOutboundCidrs: '192.0.2.0/24' }, 4)[0]).toBe('198.51.100.1 20001');
  });

  test('follows the include lists', () => {
    expect(targets({ includeOutboundCidrs: '10.96.0.0/16', includeOutboundPorts: '443-444' }, 4)).toEqual([
      '10.96.0.1 443',
      '10.96.0.1 444',
    ]);
    expect(targets({ includeOutboundCidrs: '10.96.0.0/16' }, 6)).toEqual([]);
  });

  test('is a neighbour at last, for a namespace without a default route', () => {
    expect(targets({}, 4, ['10.77.0.1', 'fd77::1']).at(-1)).toBe('10.77.0.1 20001');
  });
});

describe('what came of it', () => {
  const target = { address: '2001:db8::1', port: 20001 };
  const answer = (value: unknown) => ({ kind: 'answer', line: JSON.stringify(value) }) as const;
  test.each([
    [
      'the nonce and the destination',
      answer({ nonce: 'n', originalDestination: { address: '2001:0db8::1', port: 20001 } }),
      'redirected',
      'came to port 15001',
    ],
    [
      'another destination',
      answer({ nonce: 'n', originalDestination: { address: '::1', port: 15001 } }),
      'failed',
      'as if it had been going to [::1]:15001',
    ],
    ['no destination', answer({ nonce: 'n', originalDestination: null }), 'failed', 'does not tell where it was going'],
    ['another nonce', answer({ nonce: 'm', originalDestination: target }), 'failed', 'something else answered'],
    ['no JSON', { kind: 'answer', line: 'HTTP/1.1 400 Bad Request' }, 'failed', 'something else answered'],
    ['null', { kind: 'answer', line: 'null' }, 'failed', 'something else answered'],
    ['silence', { kind: 'failed', code: 'TIMEOUT' }, 'failed', 'nothing answered it in time'],
    ['a refusal', { kind: 'failed', code: 'ECONNREFUSED' }, 'failed', 'it failed with ECONNREFUSED'],
  ] as const)('%s', (_name, result, outcome, detail) => {
    const said = verdict(result, target, 'n', 15001);
    expect(said.outcome).toBe(outcome);
    expect(said.detail).toContain(detail);
  });
});

describe('the whole', () => {
  const probe = (outcome: 'redirected' | 'failed' | 'skipped') =>
    ({ direction: 'outbound', family: 4, outcome, detail: 'why' }) as const;
  test('holds where one probe succeeded and none failed', () => {
    expect(() => requireRedirected([probe('redirected'), probe('skipped')])).not.toThrow();
  });
  test.each([
    ['one failed', [probe('redirected'), probe('failed')]],
    ['none could be made', [probe('skipped'), probe('skipped')]],
  ])('does not where %s', (_name, results) => {
    expect(() => requireRedirected(results)).toThrow('outbound IPv4: why');
  });
});
