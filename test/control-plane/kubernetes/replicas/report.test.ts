import { describe, expect, test } from 'vitest';
import {
  addEnforcement,
  MalformedReport,
  type ReplicaReport,
  readQuestion,
  readReport,
} from '../../../../control-plane/kubernetes/replicas/report.ts';

const report: ReplicaReport = {
  pod: 'postern-control-plane-1',
  connected: 2,
  untrusting: { count: 1, names: ['shop/orders-1'] },
  sidecars: null,
  policies: { 'AuthorizationPolicy/shop/p': { wanted: 2, inForce: 1, rejected: 1, reason: 'why' } },
};

describe('what replicas tell each other', () => {
  test('a report survives the way over the wire', () => {
    expect(readReport(JSON.parse(JSON.stringify(report)))).toEqual(report);
  });

  test.each<readonly [string, unknown]>([
    ['no object', []],
    ['no pod', { ...report, pod: 7 }],
    ['a count below zero', { ...report, connected: -1 }],
    ['no list of those that do not trust', { ...report, untrusting: null }],
    ['policies without counts', { ...report, policies: { a: { wanted: 1 } } }],
    ['sidecars that are no list', { ...report, sidecars: {} }],
  ])('%s is no report', (_what, value) => {
    expect(() => readReport(value)).toThrow(MalformedReport);
  });

  test.each<readonly [string, unknown]>([
    ['roots that are no texts', { roots: [1], sidecars: true, policies: true }],
    ['more roots than a mesh has', { roots: Array.from({ length: 65 }, () => 'x'), sidecars: true, policies: true }],
    ['no word on what is wanted', { roots: [] }],
  ])('%s is no question', (_what, value) => {
    expect(() => readQuestion(value)).toThrow(MalformedReport);
  });

  test('counts of several replicas add up, and one reason is kept', () => {
    const one = { wanted: 2, inForce: 2, rejected: 0, reason: null };
    const other = { wanted: 3, inForce: 1, rejected: 2, reason: 'why' };
    expect(addEnforcement(one, other)).toEqual({ wanted: 5, inForce: 3, rejected: 2, reason: 'why' });
    expect(addEnforcement(undefined, one)).toEqual(one);
  });
});
