import { expect, test } from 'vitest';
import { Acknowledgements } from '../../../control-plane/push/acknowledgements.ts';
import { deltaBetween, fullDelta } from '../../../control-plane/push/delta.ts';
import { Layer, Layers } from '../../../control-plane/registry/layer.ts';
import type { Scope } from '../../../control-plane/registry/scope.ts';

const scopeOf = (version: string, ...names: string[]): Scope => ({
  workloadClass: 'c',
  version,
  resources: new Layers(
    new Layer(names.map((name) => ({ kind: 'Jwks', name, jwks: null }))),
    new Layer([]),
    new Layer([]),
  ),
});
const [one, two] = [scopeOf('v1', 'a', 'b'), scopeOf('v2', 'b', 'c')];
const refused = (name: string) => ({ key: `Jwks/${name}`, reason: 'odd' }) as const;
const started = () => {
  const acknowledgements = new Acknowledgements(10);
  acknowledgements.sent(fullDelta(one), one, 0, null);
  return acknowledgements;
};

test('of a full push whatever it holds can be refused, and nothing else', () => {
  const acknowledgements = started();
  expect(acknowledgements.settle('v1', [refused('a'), refused('z')], 0)).not.toBeNull();
  expect([acknowledgements.acknowledged, acknowledgements.rejected]).toEqual([one, [refused('a')]]);
});

test('what was refused stays so until it is sent again or is gone', () => {
  const acknowledgements = started();
  acknowledgements.settle('v1', [refused('a'), refused('b')], 0);
  acknowledgements.sent(deltaBetween(one, two), two, 0, null);
  acknowledgements.settle('v2', [refused('c'), refused('b')], 0);
  expect(acknowledgements.rejected).toEqual([refused('b'), refused('c')]);
  acknowledgements.sent(fullDelta(one), one, 0, null);
  acknowledgements.settle('v1', [], 0);
  expect(acknowledgements.rejected).toEqual([]);
});
