import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ControlPlaneClient } from '../../../proxy/control/control-plane-client.ts';
import { ControlPlaneConnector } from '../../../proxy/control/control-plane-request.ts';
import type { Svid } from '../../../proxy/control/svid.ts';
import { ControlPlaneTrust } from '../../../proxy/control/trust.ts';
import { FakeControlPlane } from './support/fake-control-plane.ts';

const WORKLOAD = {
  name: 'orders-1',
  namespace: 'shop',
  serviceAccount: 'orders',
  labels: {},
  addresses: [],
  tunnel: null,
  ports: {},
};
const ACK = { workload: 'orders-1', version: 'v1', rejected: [] };

describe('where several replicas stand behind one address', () => {
  let directory: string;
  let front: FakeControlPlane;
  let behind: FakeControlPlane;
  let client: ControlPlaneClient;
  let svid: Svid;
  const over = new AbortController();

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'postern-client-'));
    front = new FakeControlPlane();
    behind = new FakeControlPlane(front.ca);
    await Promise.all([front.listen(), behind.listen()]);
    writeFileSync(join(directory, 'ca.pem'), front.ca.root);
    const trust = new ControlPlaneTrust(join(directory, 'ca.pem'), null);
    const lookup = (): never => {
      throw new Error('nothing is to be looked up here');
    };
    client = new ControlPlaneClient(new ControlPlaneConnector(front.address, trust, lookup), trust);
    const { cert: chain, key: privateKey } = front.ca.server('ns/shop/sa/orders');
    const now = Date.now();
    svid = { spiffeId: '', chain, privateKey, serial: '', notBefore: now, notAfter: now + 60_000, receivedAt: now };
  });

  afterEach(async () => {
    client.close();
    await Promise.all([front.close(), behind.close()]);
    rmSync(directory, { recursive: true });
  });

  const open = async (): Promise<void> => {
    const stream = await client.openStream({ workload: WORKLOAD, proxyVersion: '0', resume: null }, svid, over.signal);
    stream.on('error', () => undefined);
    stream.destroy();
  };
  const acknowledge = (): Promise<void> => client.acknowledge(ACK, svid, over.signal);

  it('acknowledges to the one that serves the stream', async () => {
    front.replica = `127.0.0.1:${behind.port}`;
    await open();
    await acknowledge();
    expect([front.acks.length, behind.acks.length]).toEqual([0, 1]);
  });

  it('acknowledges to the address of all where that one cannot be reached, and for the next stream asks anew', async () => {
    front.replica = `127.0.0.1:${behind.port}`;
    await open();
    await behind.close();
    await acknowledge();
    expect(front.acks.length).toBe(1);
    await behind.listen(behind.port);
    await open();
    await acknowledge();
    expect([front.acks.length, behind.acks.length]).toEqual([1, 1]);
  });

  it.each(['', 'localhost:1', '127.0.0.1', '127.0.0.1:0', '127.0.0.1:65536', '[::1]', '127.0.0.1:1/x', '300.0.0.1:1'])(
    'goes nowhere else for the header %j',
    async (header) => {
      front.replica = header;
      await open();
      await acknowledge();
      expect(front.acks.length).toBe(1);
    },
  );
});
