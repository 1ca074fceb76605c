import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type App, Client, echoApp, isAllowed, type TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { Mesh, policyManifest, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const allowFrontend = policyManifest({ name: 'allow-frontend', app: 'orders', from: ['frontend'] });

let app: App;
let mesh: Mesh;
const orders = (caller: string): TcpAddress => mesh.workload(caller).upstream(ORDERS);

beforeAll(async () => {
  app = await echoApp();
  mesh = await Mesh.start({
    manifests: { 'orders.yaml': serviceManifest('orders', 8080), 'allow.yaml': allowFrontend },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: app }] },
      { name: 'frontend', upstreams: [ORDERS] },
      { name: 'payments', upstreams: [ORDERS] },
    ],
  });
  await eventually(() => isAllowed(orders('frontend')), { what: 'the endpoints to reach frontend' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
});

describe('who may connect', () => {
  test('a caller that a policy allows reaches the application; both access logs name both identities and the policy', async () => {
    expect(await isAllowed(orders('frontend'))).toBe(true);
    const { spiffeId: caller } = mesh.workload('frontend');
    const { spiffeId: callee } = mesh.workload('orders');
    for (const name of ['frontend', 'orders']) {
      const says = (line: object, text: string): boolean => JSON.stringify(line).includes(text);
      await mesh.workload(name).accessLogLine((line) => says(line, caller) && says(line, callee), 'both identities');
    }
    await mesh
      .workload('orders')
      .accessLogLine((line) => line.verdict === 'allowed' && line.policy === 'shop/allow-frontend', 'the policy');
  });

  test('another caller is closed without a byte, and the application does not hear of it', async () => {
    const before = app.accepted;
    expect(await isAllowed(orders('payments'))).toBe(false);
    expect(app.accepted).toBe(before);
    const caller = mesh.workload('payments').spiffeId;
    const line = await mesh
      .workload('orders')
      .accessLogLine((one) => one.verdict === 'denied' && JSON.stringify(one).includes(caller), 'the denial');
    expect(JSON.stringify(line)).toContain('no-allow-policy-matched');
  });

  test('a denial by a DENY policy names the policy and the rule', async () => {
    const deny = policyManifest({ name: 'no-frontend', app: 'orders', action: 'DENY', from: ['frontend'] });
    mesh.editManifest('deny.yaml', deny);
    await eventually(async () => !(await isAllowed(orders('frontend'))), { what: 'the denial' });
    // The first that failed may have been let in and cut by the change; this one is decided anew.
    expect(await isAllowed(orders('frontend'))).toBe(false);
    await mesh
      .workload('orders')
      .accessLogLine((line) => line.policy === 'shop/no-frontend' && line.rule === 0, 'policy and rule');
    // The name of a new series comes to the control thread by a message of its own.
    const labels = { policy: 'shop/no-frontend', verdict: 'denied' };
    const counted = async () =>
      (await mesh.workload('orders').metrics()).sum('postern_policy_decisions_total', labels) > 0;
    await eventually(counted, { what: 'the denial to be counted' });
    mesh.removeManifest('deny.yaml');
    await eventually(() => isAllowed(orders('frontend')), { what: 'the denial to end' });
  });
});

describe('an edit of a manifest', () => {
  test('cuts a live connection that is no longer allowed, and only that', async () => {
    mesh.editManifest(
      'allow.yaml',
      policyManifest({ name: 'allow-frontend', app: 'orders', from: ['frontend', 'payments'] }),
    );
    await eventually(() => isAllowed(orders('payments')), { what: 'payments to be allowed' });
    const cut = await Client.dial(orders('payments'));
    const kept = await Client.dial(orders('frontend'));
    for (const client of [cut, kept]) {
      client.write('one');
      await client.read(3);
    }
    mesh.editManifest('allow.yaml', allowFrontend);
    await cut.over();
    kept.write('two');
    expect((await kept.read(3)).toString()).toBe('two');
    kept.destroy();
    cut.destroy();
    const cutLine = await mesh
      .workload('orders')
      .accessLogLine(
        (line) => /policy change/.test(`${line.detail}`) && JSON.stringify(line).includes('sa/payments'),
        'the cut',
      );
    expect(cutLine).toBeDefined();
  });

  test('that is not valid changes nothing, and is reported with file and line', async () => {
    mesh.editManifest('allow.yaml', '{ "apiVersion": "security.istio.io/v1", "kind": ');
    await eventually(
      () => mesh.controlPlane.stdout.some((line) => line.includes('allow.yaml') && /[:"]1\b/.test(line)),
      {
        what: 'the report of the broken file',
      },
    );
    expect(await isAllowed(orders('frontend'))).toBe(true);
    expect(await isAllowed(orders('payments'))).toBe(false);
    mesh.editManifest('allow.yaml', allowFrontend);
  });
});

test('connections and bytes are counted under Istio’s names and labels, on both sides', async () => {
  const count = async (workload: string, name: string, labels: { [label: string]: string }): Promise<number> =>
    (await mesh.workload(workload).metrics()).sum(name, labels);
  const labels = {
    source_principal: mesh.workload('frontend').spiffeId,
    destination_principal: mesh.workload('orders').spiffeId,
    source_workload: 'frontend',
    destination_workload: 'orders',
    destination_service: 'orders.shop.svc.cluster.local',
    request_protocol: 'tcp',
    response_flags: '-',
  };
  const destination = { ...labels, reporter: 'destination', connection_security_policy: 'mutual_tls' };
  const source = { ...labels, reporter: 'source', connection_security_policy: 'unknown' };
  const opened = 'istio_tcp_connections_opened_total';
  const [atSource, atDestination] = [
    await count('frontend', opened, source),
    await count('orders', opened, destination),
  ];
  const client = await Client.dial(orders('frontend'));
  client.write('12345');
  await client.read(5);
  client.end();
  await client.readToEnd();
  await eventually(async () => (await count('frontend', opened, source)) === atSource + 1, {
    what: 'the count at the source',
  });
  await eventually(async () => (await count('orders', opened, destination)) === atDestination + 1, {
    what: 'the count at the destination',
  });
  for (const name of ['istio_tcp_sent_bytes_total', 'istio_tcp_received_bytes_total']) {
    // Connections are counted when they begin, their bytes when they end.
    await eventually(async () => (await count('orders', name, destination)) >= 5, { what: `${name} of orders` });
    await eventually(async () => (await count('frontend', name, source)) >= 5, { what: `${name} of frontend` });
  }
});
