import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { injectText } from '../../cli/inject/inject-text.ts';
import { inject } from '../../kubernetes/injection/inject.ts';
import type { JsonObject } from '../../policy/types.ts';
import { CONTEXT, SETTINGS } from '../kubernetes/injection/support.ts';

/** What YAML may take for something else, or break over lines. */
const text = fc.oneof(
  fc.constantFrom('', 'on', 'no', '~', 'null', '1', '0644', '0x1f', '1e3', '1_000', '12:30', '2020-01-01', '='),
  fc.constantFrom(
    '# no comment',
    'a: b',
    ' lead',
    'trail ',
    'two\nlines',
    'two\nlines\n',
    '- item',
    '{a}',
    "it's",
    '"q"',
    '\ttab',
  ),
  fc.string({ maxLength: 12 }),
  fc.string({ minLength: 60, maxLength: 200, unit: fc.constantFrom('a', ' ', '-', ':') }),
);
const container = fc.record(
  {
    name: fc.constant('app'),
    image: text,
    args: fc.array(text, { maxLength: 4 }),
    env: fc.array(fc.record({ name: text, value: text }), { maxLength: 3 }),
    ports: fc.constant([{ name: 'http', containerPort: 8080 }]),
    readinessProbe: fc.constant({ httpGet: { port: 'http', path: '/ready' }, periodSeconds: 3 }),
  },
  { requiredKeys: ['name'] },
);
const pod = fc.record(
  {
    apiVersion: fc.constant('v1'),
    kind: fc.constant('Pod'),
    metadata: fc.record({
      name: fc.constant('a'),
      labels: fc.dictionary(fc.constantFrom('app', 'version', 'on', '1'), text),
    }),
    spec: fc.record({ containers: container.map((one) => [one]), nodeSelector: fc.dictionary(text, text) }),
  },
  { requiredKeys: ['apiVersion', 'kind', 'metadata', 'spec'] },
);
const style = fc.record({
  indent: fc.constantFrom(2, 4),
  indentSeq: fc.boolean(),
  lineWidth: fc.constantFrom(0, 40),
  collectionStyle: fc.constantFrom('block' as const, 'any' as const),
  defaultStringType: fc.constantFrom(
    'PLAIN' as const,
    'QUOTE_DOUBLE' as const,
    'QUOTE_SINGLE' as const,
    'BLOCK_FOLDED' as const,
  ),
});

/** The library itself does not write everything well. */
function isRight(written: string, object: JsonObject): boolean {
  try {
    return isDeepStrictEqual(parse(written, { version: '1.1' }), object);
  } catch {
    return false;
  }
}

test('however a pod is written, what is printed is the injected pod', () => {
  fc.assert(
    fc.property(pod, style, (made, options) => {
      // `__proto__` is refused, as are `<<` keys: see the reader of YAML.
      const object = JSON.parse(JSON.stringify(made)) as JsonObject;
      const written = stringify(object, { version: '1.1', ...options });
      fc.pre(!/__proto__|<</.test(written) && isRight(written, object));
      const expected = inject(object, { ...CONTEXT, workload: 'a' }, SETTINGS);
      if (expected.outcome !== 'injected') throw new Error(JSON.stringify(expected));
      const before = `# before\n${stringify({ kind: 'X', on: 'on' })}---\n`;
      const { text: printed } = injectText(`${before}${written}`, 'pod.yaml', {
        settings: SETTINGS,
        namespace: null,
        version: '0.1.0',
      });
      expect(printed.startsWith(before)).toBe(true);
      const rest = printed.slice(before.length);
      expect(parse(rest, { version: '1.1' })).toEqual(expected.pod);
      expect(parse(rest, { version: '1.2' })).toEqual(expected.pod);
    }),
    { numRuns: 200 },
  );
});
