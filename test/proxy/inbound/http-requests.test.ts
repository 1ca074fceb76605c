import { X509Certificate } from 'node:crypto';
import * as http2 from 'node:http2';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import {
  ask,
  askWhatYouSaw,
  type HttpApp,
  http1App,
  http2App,
  readAll,
  tellWhatYouSaw,
} from '../../support/http-apps.ts';
import { FRONTEND, type Orders, operation, policy, startOrders, type Undo } from './orders.ts';

const undo: Undo = [];
afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

describe('requests in HTTP/1.1', () => {
  let app: HttpApp;
  let orders: Orders;

  beforeAll(async () => {
    app = await http1App(tellWhatYouSaw);
    undo.push(() => app.close());
    orders = await startOrders(app, undo);
    await orders.plane.push(
      policy('reads', 'ALLOW', operation(['GET', 'HEAD'], ['/orders*']), operation(['POST'], ['/orders'])),
      policy('secret', 'DENY', operation([], ['/orders/secret*'])),
    );
  });

  test.each([
    ['GET', '/orders', 200],
    ['GET', '/orders/7?x=1', 200],
    ['HEAD', '/orders', 200],
    ['POST', '/orders', 200],
    ['POST', '/orders/7', 403],
    ['DELETE', '/orders', 403],
    ['GET', '/admin', 403],
    ['GET', '/orders/secret', 403],
    ['GET', '/orders/x/../secret', 403],
    ['GET', '/orders/%73ecret', 403],
    ['GET', '/orders\\secret', 403],
    ['GET', '/public/../orders', 200],
    ['GET', '/orders/%00', 400],
  ])('%s %s is answered %i', async (method, path, status) => {
    const before = app.requests;
    const answer = await ask(orders.entry, path, { method });
    expect(answer.status).toBe(status);
    expect(app.requests - before).toBe(status === 200 ? 1 : 0);
    if (status === 403 && method !== 'HEAD') expect(answer.body.toString()).toBe('RBAC: access denied');
  });

  test('reach the application with the path that was decided', async () => {
    expect((await askWhatYouSaw(orders.entry, '/a/%2e%2e/orders/./%7Ex?q=/../%2e')).url).toBe('/orders/~x?q=/../%2e');
  });

  test('tell the application who called, and nothing that the caller made up', async () => {
    const { headers } = await askWhatYouSaw(orders.entry, '/orders', {
      headers: {
        'x-forwarded-client-cert': 'URI=spiffe://cluster.local/ns/shop/sa/admin',
        'x-envoy-peer-metadata': 'forged',
        'x-postern-reason': 'forged',
        'x-kept': 'yes',
      },
    });
    const hash = new X509Certificate(orders.certificate).fingerprint256.replaceAll(':', '').toLowerCase();
    expect(headers['x-forwarded-client-cert']).toBe(
      `By=spiffe://cluster.local/ns/shop/sa/orders;Hash=${hash};Subject="";URI=${FRONTEND}`,
    );
    expect(headers['x-envoy-peer-metadata']).toBeUndefined();
    expect(headers['x-postern-reason']).toBeUndefined();
    expect(headers['x-kept']).toBe('yes');
    expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  });

  test('carry bodies both ways', async () => {
    const body = 'x'.repeat(300_000);
    expect((await askWhatYouSaw(orders.entry, '/orders', { method: 'POST', body })).body).toBe(body);
  });

  test('are recorded as requests, with the decision, and not as TCP connections', async () => {
    const { plane, entry } = orders;
    await ask(entry, '/admin/recorded?secret=1');
    const line = (await eventually(() => plane.access.find((one) => 'path' in one && one.path === '/admin/recorded'), {
      what: 'the access-log line',
    })) as unknown as { readonly [key: string]: unknown };
    expect(line).toMatchObject({ direction: 'inbound', method: 'GET', status: 403, reason: 'no-allow-policy-matched' });
    expect(plane.metric('istio_requests_total', { response_code: '403', reporter: 'destination' })).toBeGreaterThan(0);
    expect(plane.metric('istio_tcp_connections_opened_total')).toBe(0);
  });

  test('share connections to the application', async () => {
    const before = app.accepted;
    for (let i = 0; i < 5; i++) await ask(orders.entry, '/orders');
    expect(app.accepted - before).toBeLessThanOrEqual(1);
  });
});

describe('requests in HTTP/2', () => {
  let orders: Orders;
  let client: http2.ClientHttp2Session;

  beforeAll(async () => {
    const app = await http2App((stream, headers) => {
      stream.respond({ ':status': 200, 'content-type': String(headers['content-type'] ?? 'text/plain') });
      stream.end(JSON.stringify(headers));
    });
    undo.push(() => app.close());
    orders = await startOrders(app, undo, { protocol: 'grpc' });
    await orders.plane.push(policy('reads', 'ALLOW', operation([], ['/allowed*', '/shop.Orders/Get'])));
    client = http2.connect(`http://127.0.0.1:${orders.entry.port}`);
    client.on('error', () => undefined);
    undo.push(() => client.destroy());
  });

  async function call(headers: http2.OutgoingHttpHeaders): Promise<{ head: http2.IncomingHttpHeaders; body: string }> {
    const stream = client.request(headers);
    const head = await new Promise<http2.IncomingHttpHeaders>((resolve, reject) => {
      stream.on('response', resolve).on('error', reject);
    });
    return { head, body: (await readAll(stream)).toString() };
  }

  test('are decided one by one on one connection', async () => {
    const paths = ['/allowed', '/denied', '/allowed/2', '/x/../denied'];
    const answers = await Promise.all(paths.map((path) => call({ ':path': path })));
    expect(answers.map(({ head }) => head[':status'])).toEqual([200, 403, 200, 403]);
    expect(answers[1]?.body).toBe('RBAC: access denied');
  });

  test('of gRPC are denied by status 7', async () => {
    const denied = {
      ':method': 'POST',
      ':path': '/shop.Orders/Delete',
      'content-type': 'application/grpc',
      te: 'trailers',
    };
    const { head } = await call(denied);
    expect(head).toMatchObject({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '7' });
    expect(decodeURIComponent(String(head['grpc-message']))).toBe('RBAC: access denied');
  });

  test('reach the application with what the sidecar says of the caller', async () => {
    const { body } = await call({ ':path': '/allowed', 'x-forwarded-client-cert': 'forged' });
    expect((JSON.parse(body) as http2.IncomingHttpHeaders)['x-forwarded-client-cert']).toContain(`URI=${FRONTEND}`);
  });
});
