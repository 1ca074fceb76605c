import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { RawClient } from '../../support/kubernetes/client.ts';
import { StandInCluster } from '../../support/kubernetes/cluster.ts';
import { nameOf } from '../../support/kubernetes/objects.ts';

const MAPS = '/api/v1/namespaces/default/configmaps';
const map = (name: string) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } });

let cluster: StandInCluster;
let client: RawClient;

beforeEach(async () => {
  cluster = await StandInCluster.start();
  client = new RawClient(cluster);
});

afterEach(async () => {
  await client.close();
  await cluster.stop();
});

test('a paused server answers nothing and sends no events; when it goes on, nothing is lost', async () => {
  const watch = await client.watch(`${MAPS}?watch=1&resourceVersion=${cluster.resourceVersion}`);
  cluster.pause();
  let isAnswered = false;
  const answer = client.call('GET', MAPS).then((one) => {
    isAnswered = true;
    return one;
  });
  await eventually(() => cluster.requests.some(({ verb }) => verb === 'list'), { what: 'the request to arrive' });
  cluster.apply([map('meanwhile')]);
  expect([isAnswered, watch.events]).toEqual([false, []]);
  cluster.resume();
  expect((await answer).status).toBe(200);
  expect((await watch.seen(1)).map(({ object }) => nameOf(object))).toEqual(['meanwhile']);
});

test('a watch whose time is over during a pause ends after it, with all that happened', async () => {
  const watch = await client.watch(`${MAPS}?watch=1&timeoutSeconds=1&resourceVersion=${cluster.resourceVersion}`);
  cluster.pause();
  cluster.apply([map('meanwhile')]);
  await sleep(1_200);
  expect([watch.ended(), watch.events]).toEqual([false, []]);
  cluster.resume();
  await eventually(watch.ended, { what: 'the end of the watch' });
  expect(watch.events.map(({ object }) => nameOf(object))).toEqual(['meanwhile']);
});

test('a stopped server refuses connections and cuts those it has; it comes back on its port with what it knew', async () => {
  cluster.apply([map('kept')]);
  const watch = await client.watch(`${MAPS}?watch=1`);
  const { url } = cluster;
  await cluster.stop();
  await eventually(watch.ended, { what: 'the watch to be cut' });
  await expect(client.call('GET', MAPS)).rejects.toThrow();
  await cluster.start();
  expect(cluster.url).toBe(url);
  expect((await client.call('GET', `${MAPS}/kept`)).status).toBe(200);
});

test('watches can be made to end again and again', async () => {
  cluster.endWatchesEvery(30);
  for (let round = 0; round < 3; round++) {
    const watch = await client.watch(`${MAPS}?watch=1`);
    await eventually(watch.ended, { what: 'the watch to end' });
  }
});

test('open watches can be told that their version is too old', async () => {
  const watch = await client.watch(`${MAPS}?watch=1`);
  cluster.compact({ openWatches: true });
  await eventually(watch.ended, { what: 'the watch to end' });
  expect(watch.events).toMatchObject([{ type: 'ERROR', object: { code: 410, reason: 'Expired' } }]);
});

test('chosen requests fail as often as is said, others do not', async () => {
  cluster.failNext(({ verb }) => verb === 'list', 503, 2);
  const statuses: number[] = [];
  for (const path of [MAPS, `${MAPS}/none`, MAPS, MAPS]) statuses.push((await client.call('GET', path)).status);
  expect(statuses).toEqual([503, 404, 503, 200]);
  cluster.failNext(() => true, 0);
  await expect(client.call('GET', MAPS)).rejects.toThrow();
});

test('answers can be made late', async () => {
  cluster.delay(200);
  const before = performance.now();
  await client.call('GET', MAPS);
  expect(performance.now() - before).toBeGreaterThanOrEqual(190);
});

test('a listener sees every request', async () => {
  const seen: string[] = [];
  cluster.onRequest(({ verb, resource }) => seen.push(`${verb} ${resource}`));
  await client.call('GET', MAPS);
  await client.call('POST', MAPS, map('x'));
  expect(seen).toEqual(['list configmaps', 'create configmaps']);
});
