import { expect, test } from 'vitest';
import type { PolicyResource, SelfResource } from '../../../mesh/resources.ts';
import type { ConnectionAttributes } from '../../../policy/types.ts';
import type { DataPlane } from '../../../proxy/connection/data-plane.ts';
import { Authorizer } from '../../../proxy/inbound/authorizer.ts';
import { meshConfig } from '../support/data-plane.ts';
import { policy, security } from './orders.ts';

const CALLER: ConnectionAttributes = {
  sourcePrincipal: 'cluster.local/ns/shop/sa/frontend',
  sourceIp: '10.0.0.1',
  destinationIp: '10.0.0.2',
  destinationPort: 8080,
  sni: '',
};

function authorizerOf(policies: PolicyResource[], lacksPolicy = false, self: SelfResource | null = null): Authorizer {
  return new Authorizer({
    view: { meshConfig: meshConfig(), policies: () => policies, lacksPolicy, self },
    config: { workload: { namespace: 'shop', labels: { app: 'configured' } } },
  } as unknown as DataPlane);
}

test('policies that cannot be compiled leave none in force: nothing comes in', () => {
  const policies = [
    policy('all', 'ALLOW', {}),
    security('PeerAuthentication', 'open', { mtls: { mode: 'PERMISSIVE' } }),
  ];
  const authorizer = authorizerOf(policies);
  authorizer.refresh();
  expect([authorizer.decide(CALLER)?.allowed, authorizer.mode(8080)]).toEqual([true, 'PERMISSIVE']);
  policies.push(security('AuthorizationPolicy', 'malformed', { action: 'DENY', rules: 'everything' }));
  expect(() => authorizer.refresh()).toThrow();
  expect([authorizer.decide(CALLER), authorizer.forConnection(CALLER), authorizer.mode(8080)]).toEqual([
    null,
    null,
    'STRICT',
  ]);
});

test('the refusal of plaintext says whether a rule wants it or none is known yet', () => {
  const authorizer = authorizerOf([security('PeerAuthentication', 'strict', { mtls: { mode: 'STRICT' } })]);
  expect(authorizer.plaintextRefusal).toMatch(/no policy has been received yet/);
  authorizer.refresh();
  expect(authorizer.plaintextRefusal).toBe('plaintext is refused: PeerAuthentication is STRICT');
});

test('while a policy is missing that could not be read, nothing comes in', () => {
  const authorizer = authorizerOf([policy('all', 'ALLOW', {})], true);
  authorizer.refresh();
  expect([authorizer.decide(CALLER), authorizer.forConnection(CALLER), authorizer.mode(8080)]).toEqual([
    null,
    null,
    'STRICT',
  ]);
});

test('policies select by the labels that the control plane knows, and before it has told by those of the settings', () => {
  const policies = ['configured', 'known'].map((app) =>
    security('AuthorizationPolicy', app, { action: 'DENY', rules: [{}], selector: { matchLabels: { app } } }),
  );
  const deciding = (self: SelfResource | null) => {
    const authorizer = authorizerOf(policies, false, self);
    authorizer.refresh();
    return authorizer.decide(CALLER)?.policy;
  };
  const known: SelfResource = { kind: 'Self', name: 'self', labels: { app: 'known' }, ended: false };
  expect([deciding(null), deciding(known), deciding({ ...known, labels: {} })]).toEqual([
    'shop/configured',
    'shop/known',
    null,
  ]);
});
