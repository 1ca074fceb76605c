import { expect, test } from 'vitest';
import { RecentScopes } from '../../../control-plane/push/recent-scopes.ts';
import { Layer, Layers } from '../../../control-plane/registry/layer.ts';
import type { Scope } from '../../../control-plane/registry/scope.ts';

const layerOf = (size: number) =>
  new Layer(Array.from({ length: size }, (_, index) => ({ kind: 'Jwks', name: `k${index}`, jwks: null }) as const));
const scopeOf = (version: string, everybody: Layer, workloadClass = 'c'): Scope => ({
  workloadClass,
  version,
  resources: new Layers(layerOf(0), layerOf(0), everybody),
});

test('a layer that many scopes share counts once', () => {
  const recent = new RecentScopes(10_000, 1_000, () => 0);
  const shared = layerOf(5_000);
  const versions = Array.from({ length: 50 }, (_, index) => `v${index}`);
  for (const version of versions) recent.remember(scopeOf(version, shared));
  expect(versions.every((version) => recent.find(version, 'c') !== null)).toBe(true);
});

test('beyond the bound the longest unused are forgotten, and what they alone held is free again', () => {
  const recent = new RecentScopes(10_000, 1_000, () => 0);
  const kept = (version: string) => recent.find(version, 'c') !== null;
  for (let index = 0; index < 5; index++) {
    recent.remember(scopeOf(`old${index}`, layerOf(4_000)));
    recent.remember(scopeOf('used', layerOf(100)));
  }
  expect(['old0', 'old1', 'old2', 'old3', 'old4', 'used'].map(kept)).toEqual([false, false, false, true, true, true]);
});

test('is found by its own class of workloads only, and not for ever', () => {
  let now = 0;
  const recent = new RecentScopes(10_000, 1_000, () => now);
  recent.remember(scopeOf('v', layerOf(1), 'mine'));
  expect([recent.find('v', 'mine')?.version, recent.find('v', 'another')]).toEqual(['v', null]);
  now = 1_001;
  expect(recent.find('v', 'mine')).toBeNull();
});
