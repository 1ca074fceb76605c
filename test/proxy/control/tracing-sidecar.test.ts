import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Resource } from '../../../mesh/resources.ts';
import { eventually } from '../../support/eventually.ts';
import { Collector } from './support/collector.ts';
import { FakeControlPlane } from './support/fake-control-plane.ts';
import { SidecarProcess, TOKEN } from './support/sidecar-process.ts';

const SERVICE = 'orders.shop';

let controlPlane: FakeControlPlane;
let collector: Collector;
let sidecar: SidecarProcess | null = null;

beforeEach(async () => {
  collector = new Collector();
  controlPlane = new FakeControlPlane();
  controlPlane.tokens.add(TOKEN);
  await controlPlane.listen();
  const resources = (): Resource[] => [
    { kind: 'TrustBundle', name: 'roots', roots: [controlPlane.ca.root] },
    { kind: 'AuthorizationPolicy', name: 'test/span', object: {} },
  ];
  controlPlane.greeting = () => [{ type: 'delta', version: 'v1', full: true, upserts: resources(), removes: [] }];
});

afterEach(async () => {
  await sidecar?.remove();
  sidecar = null;
  await controlPlane.close();
  collector.close();
});

async function start(): Promise<SidecarProcess> {
  const endpoint = await collector.listen();
  sidecar = await SidecarProcess.start(controlPlane, { tracing: { endpoint, sampling: 1 } });
  await sidecar.becomesReady();
  return sidecar;
}

it('a worker’s spans reach the collector, and are counted', async () => {
  const proxy = await start();
  await eventually(async () => (await proxy.metrics()).sum('postern_spans_exported_total') === 1, { what: 'the span' });
  expect(collector.spans(SERVICE).map(({ name }) => name)).toEqual(['asked for']);
  expect((await proxy.metrics()).sum('postern_spans_dropped_total')).toBe(0);
});

it('the spans of the last requests are sent before the sidecar ends', async () => {
  const proxy = await start();
  proxy.child.kill('SIGTERM');
  expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
  expect(collector.spans(SERVICE).map(({ name }) => name)).toEqual(['asked for', 'last']);
});

it('a collector that never answers does not keep the sidecar from ending', async () => {
  collector.answers = Array.from({ length: 10 }, () => 'never' as const);
  const proxy = await start();
  await eventually(() => collector.requests.length > 0, { what: 'the request' });
  proxy.child.kill('SIGTERM');
  expect(await proxy.child.exited).toEqual({ code: 0, signal: null });
});
