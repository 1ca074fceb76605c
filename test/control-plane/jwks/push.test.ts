import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Resource } from '../../../mesh/resources.ts';
import { signer } from '../../policy/jwt/forge.ts';
import { eventually } from '../../support/eventually.ts';
import { TestPlane, TestSidecar, type TestStream } from '../support.ts';
import { Provider } from './provider.ts';

const SETTINGS = 'jwks: { allowedAddresses: [127.0.0.1], refreshInterval: 1s }\n';
const JWT = (name: string, app: string, rule: string): string => `
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: ${name}, namespace: shop }
spec: { selector: { matchLabels: { app: ${app} } }, jwtRules: [ ${rule} ] }
`;

let plane: TestPlane;
let provider: Provider;
beforeEach(async () => {
  provider = await Provider.start();
});
afterEach(async () => {
  await plane.stop();
  await provider.stop();
});

/** Names of the keys that the sidecar was told; null where it was told that there are none. */
function kids(stream: TestStream, name: string): readonly string[] | null | undefined {
  const resource: Resource | undefined = stream.resources.get(`Jwks/${name}`);
  if (resource?.kind !== 'Jwks') return undefined;
  return resource.jwks === null ? null : JSON.parse(resource.jwks).keys.map(({ kid }: { kid: string }) => kid);
}

const knows = (stream: TestStream, name: string, wanted: readonly string[] | null) =>
  eventually(() => JSON.stringify(kids(stream, name)) === JSON.stringify(wanted), { what: `the keys ${wanted}` });

describe('the keys of an issuer', () => {
  test('reach the sidecars that need them, and follow a rotation', async () => {
    const configuration = `${provider.url}/.well-known/openid-configuration`;
    provider.discovery(`${provider.url}/keys`);
    provider.keys('/keys', signer('ES256', 'first'));
    plane = await TestPlane.start({
      settings: SETTINGS,
      manifests: { 'jwt.yaml': JWT('jwt', 'orders', `{ issuer: "${provider.url}" }`) },
    });
    const orders = await (await TestSidecar.join(plane, 'orders')).stream('orders-1');
    const web = await (await TestSidecar.join(plane, 'web')).stream('web-1', {
      workload: { addresses: ['127.0.0.2'] },
    });
    await knows(orders, configuration, ['first']);
    expect(orders.keys('RequestAuthentication')).toEqual(['RequestAuthentication/shop/jwt']);
    await web.first();
    expect([...web.keys('Jwks'), ...web.keys('RequestAuthentication')]).toEqual([]);
    provider.keys('/keys', signer('ES256', 'first'), signer('ES256', 'second'));
    await knows(orders, configuration, ['first', 'second']);
    provider.status('/keys', 500);
    await eventually(async () => /jwks_fetches_total\{result="failure"\} [1-9]/.test(await plane.metrics()), {
      what: 'a fetch that fails',
    });
    expect(await plane.metrics()).toMatch(/postern_jwks_key_sets\{state="stale"\} 1/);
    expect(kids(orders, configuration)).toEqual(['first', 'second']);
  });

  test('are null as long as they could not be fetched, and come when they can be', async () => {
    plane = await TestPlane.start({ settings: SETTINGS });
    const orders = await (await TestSidecar.join(plane, 'orders')).stream('orders-1');
    await orders.first();
    plane.write('jwt.yaml', JWT('jwt', 'orders', `{ issuer: i, jwksUri: "${provider.url}/keys" }`));
    await knows(orders, `${provider.url}/keys`, null);
    provider.keys('/keys', signer('ES256', 'k'));
    await knows(orders, `${provider.url}/keys`, ['k']);
    plane.remove('jwt.yaml');
    await orders.loses(`Jwks/${provider.url}/keys`);
  });

  test('on a loopback address are not fetched without the operator’s word', async () => {
    provider.keys('/keys', signer('ES256', 'k'));
    plane = await TestPlane.start({
      manifests: { 'jwt.yaml': JWT('jwt', 'orders', `{ issuer: i, jwksUri: "${provider.url}/keys" }`) },
    });
    await eventually(async () => /jwks_fetches_total\{result="failure"\} [1-9]/.test(await plane.metrics()), {
      what: 'a refusal',
    });
    const orders = await (await TestSidecar.join(plane, 'orders')).stream('orders-1');
    await knows(orders, `${provider.url}/keys`, null);
    expect(provider.asked).toEqual([]);
  });
});
