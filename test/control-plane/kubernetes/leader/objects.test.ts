import { describe, expect, test } from 'vitest';
import { statusOf } from '../../../../control-plane/kubernetes/leader/conditions.ts';
import { eventOf } from '../../../../control-plane/kubernetes/leader/policy-events.ts';
import { caBundlePatch } from '../../../../control-plane/kubernetes/leader/webhook-bundles.ts';
import type { JsonObject } from '../../../../policy/types.ts';

const OURS = { namespace: 'postern-system', name: 'postern-control-plane' };

describe('caBundle of webhooks', () => {
  const configuration = (...webhooks: readonly JsonObject[]): JsonObject => ({
    metadata: { resourceVersion: '7' },
    webhooks,
  });
  const webhook = (service: JsonObject, caBundle?: string): JsonObject => ({
    clientConfig: { service, ...(caBundle === undefined ? {} : { caBundle }) },
  });

  test('is written where it is absent or another, in one patch that fails if the object has changed', () => {
    const object = configuration(webhook(OURS), webhook(OURS, 'new'), webhook(OURS, 'old'));
    expect(caBundlePatch(object, OURS, 'new')).toEqual([
      { op: 'test', path: '/metadata/resourceVersion', value: '7' },
      { op: 'add', path: '/webhooks/0/clientConfig/caBundle', value: 'new' },
      { op: 'add', path: '/webhooks/2/clientConfig/caBundle', value: 'new' },
    ]);
  });

  test('of somebody else is left alone', () => {
    expect(caBundlePatch(configuration(webhook({ ...OURS, namespace: 'other' })), OURS, 'new')).toBeNull();
    expect(caBundlePatch(configuration({ clientConfig: { url: 'https://example' } }), OURS, 'new')).toBeNull();
  });

  test('that is right needs no patch', () => {
    expect(caBundlePatch(configuration(webhook(OURS, 'new')), OURS, 'new')).toBeNull();
  });
});

describe('the condition Accepted', () => {
  const then = new Date('2026-01-01T00:00:00Z');
  const later = new Date('2026-01-02T00:00:00Z');
  const object = (status: JsonObject | null, generation = 1): JsonObject => ({
    metadata: { generation },
    ...(status === null ? {} : { status }),
  });

  test('is written once and then left', () => {
    const status = statusOf(object(null), null, then);
    expect(status?.conditions).toMatchObject([{ type: 'Accepted', status: 'True', observedGeneration: 1 }]);
    expect(statusOf(object(status), null, later)).toBeNull();
  });

  test('keeps its time while only the message or the generation changes', () => {
    const status = statusOf(object(null), 'one thing', then);
    const next = statusOf(object(status, 2), 'another thing', later);
    expect(next?.conditions).toMatchObject([
      { status: 'False', message: 'another thing', observedGeneration: 2, lastTransitionTime: '2026-01-01T00:00:00Z' },
    ]);
    expect(statusOf(object(next, 3), null, later)?.conditions).toMatchObject([
      { status: 'True', lastTransitionTime: '2026-01-02T00:00:00Z' },
    ]);
  });

  test('leaves conditions of others', () => {
    const other = { type: 'Other', status: 'True' };
    expect(statusOf(object({ conditions: [other] }), null, then)?.conditions).toEqual([
      other,
      expect.objectContaining({ type: 'Accepted' }),
    ]);
  });
});

test('an Event names the object that it is about, with a time of six digits', () => {
  const manifest = {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    namespace: 'shop',
    name: 'p',
    object: { metadata: { uid: 'u-1', resourceVersion: '12' } },
    locate: () => ({ file: '', line: 1, column: 1 }),
  };
  const verdict = { type: 'Normal', reason: 'PolicyEnforced', note: 'n' } as const;
  const event = eventOf(manifest, verdict, 'pod-1', new Date('2026-01-01T00:00:00.123Z'));
  expect(event).toMatchObject({
    metadata: { namespace: 'shop', name: expect.stringMatching(/^p\.[0-9a-f]{16}$/) },
    eventTime: '2026-01-01T00:00:00.123000Z',
    regarding: { kind: 'AuthorizationPolicy', namespace: 'shop', name: 'p', uid: 'u-1', resourceVersion: '12' },
  });
});
