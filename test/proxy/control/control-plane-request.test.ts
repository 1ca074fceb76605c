import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ControlPlaneConnector } from '../../../proxy/control/control-plane-request.ts';
import { ControlPlaneTrust } from '../../../proxy/control/trust.ts';
import { FakeControlPlane } from './support/fake-control-plane.ts';

let directory: string;
let controlPlane: FakeControlPlane;
let silent: Server;
const sockets: Socket[] = [];
let addresses: { address: string; family: number }[];
let asked: string[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'postern-connector-'));
  controlPlane = new FakeControlPlane();
  await controlPlane.listen();
  writeFileSync(join(directory, 'ca.pem'), controlPlane.ca.root);
  silent = createServer((socket) => sockets.push(socket.on('error', () => undefined))).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  addresses = [{ address: '127.0.0.1', family: 4 }];
  asked = [];
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  silent.close();
  await controlPlane.close();
  rmSync(directory, { recursive: true });
});

function connector(port: number): ControlPlaneConnector {
  const trust = new ControlPlaneTrust(join(directory, 'ca.pem'), null);
  return new ControlPlaneConnector(
    `https://postern-control-plane.invalid:${port}`,
    trust,
    (name, options, callback) => {
      asked.push(name);
      if (options.all === true) callback(null, addresses);
      else callback(null, addresses[0]?.address ?? '', addresses[0]?.family);
    },
  );
}

const call = (to: ControlPlaneConnector): Promise<unknown> =>
  to.call({ method: 'GET', path: '/v1/trust-bundle', signal: new AbortController().signal }).finally(() => to.close());

it('asks for the addresses of the name, and takes the next where one refuses', async () => {
  // On the second loopback address nothing listens.
  addresses = [{ address: '127.0.0.2', family: 4 }, ...addresses];
  expect(await call(connector(controlPlane.port))).toMatchObject({ status: 200 });
  expect(asked).toEqual(['postern-control-plane.invalid']);
});

it('gives up a server that takes the connection and says nothing within 4 s', async () => {
  const { port } = silent.address() as AddressInfo;
  await expect(call(connector(port))).rejects.toThrow('no connection within 4000 ms');
});
