import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import type { JsonObject } from '../../policy/types.ts';
import { StandInCluster } from '../../test/support/kubernetes/cluster.ts';
import {
  type ClusterSize,
  namespaceObject,
  namespaceOf,
  podName,
  podObject,
  policyObject,
  serviceAccountObject,
  serviceObject,
} from '../lib/cluster-objects.ts';
import { startCpuMeter } from '../lib/cpu.ts';
import { privateMemory } from '../lib/memory.ts';
import { freePort } from '../lib/ports.ts';
import type { RunningProcess } from '../lib/processes.ts';
import type { Progress } from '../lib/rounds.ts';
import { StreamClient } from '../lib/stream-client.ts';
import type { Workbench } from '../lib/workbench.ts';

export interface ClusterPlan extends ClusterSize {
  /** Sidecars that are connected. */
  readonly sidecars: number;
  /** Policy changes that are measured, one after the other. */
  readonly rounds: number;
  readonly limitMs: number;
  /** Pods that are replaced each second while the cluster churns, and for how long. */
  readonly churnPerSecond: number;
  readonly churnSeconds: number;
}

export const FULL_CLUSTER: ClusterPlan = {
  namespaces: 50,
  services: 1_000,
  pods: 5_000,
  sidecars: 100,
  rounds: 20,
  limitMs: 120_000,
  churnPerSecond: 50,
  churnSeconds: 30,
};
export const QUICK_CLUSTER: ClusterPlan = { ...FULL_CLUSTER, sidecars: 40, rounds: 5, churnSeconds: 8 };

export interface ClusterMeasurements {
  readonly plan: ClusterPlan;
  /** From the start of the process to readiness, everything read; seconds. */
  readonly startSeconds: number;
  /** From the answer of the API server to the arrival at a sidecar, of each change at each sidecar; milliseconds. */
  readonly policyMs: readonly number[];
  /** The same of a pod that comes while others come and go. */
  readonly churnMs: readonly number[];
  /** Of the control plane, for each pod that was replaced; nanoseconds. */
  readonly cpuPerPod: number;
  /** RssAnon of the control plane; bytes. */
  readonly memory: { readonly ready: number; readonly connected: number; readonly afterChurn: number };
}

const POSTERN = join(import.meta.dirname, '..', '..', 'bin', 'postern');
const MANIFESTS = join(import.meta.dirname, '..', '..', 'manifests', 'kubernetes');
const START_MS = 120_000;
const ARRIVAL_MS = 60_000;
const CONNECT_AT_A_TIME = 8;

/** One control plane on the proxies' core; API server (the stand-in of the tests) and sidecars on the other. */
export async function measureCluster(
  bench: Workbench,
  plan: ClusterPlan,
  progress: Progress,
): Promise<ClusterMeasurements> {
  const cluster = await StandInCluster.start({ historyLength: 100_000 });
  try {
    fill(cluster, plan);
    progress(`${plan.services} services and ${plan.pods} pods are in the API server`);
    const started = performance.now();
    const plane = await startControlPlane(bench, cluster);
    const startSeconds = (performance.now() - started) / 1000;
    const ready = privateMemory(plane.process.pid);
    progress(`the control plane has read everything in ${startSeconds.toFixed(1)} s`);
    const arrivals = new Arrivals();
    const sidecars = await connectSidecars(cluster, plane, plan, arrivals);
    try {
      progress(`${plan.sidecars} sidecars are connected`);
      await bench.sleep(3_000);
      const connected = privateMemory(plane.process.pid);
      const policyMs = await measurePolicies(bench, cluster, plan, arrivals);
      progress('policy changes are measured');
      const churn = await measureChurn(bench, cluster, { plan, arrivals, pid: plane.process.pid });
      plane.process.assertRunning();
      const afterChurn = privateMemory(plane.process.pid);
      return { plan, startSeconds, policyMs, ...churn, memory: { ready, connected, afterChurn } };
    } finally {
      for (const sidecar of sidecars) sidecar.close();
    }
  } finally {
    await cluster.stop();
  }
}

/** What was waited for, and when each sidecar has seen it. */
class Arrivals {
  readonly #waits = new Set<{
    readonly text: string;
    readonly seen: Set<number>;
    readonly onSeen: (at: number) => void;
  }>();

  /** A delta has come to the sidecar of that number. */
  take(sidecar: number, line: string): void {
    for (const wait of this.#waits) {
      if (wait.seen.has(sidecar) || !line.includes(wait.text)) continue;
      wait.seen.add(sidecar);
      wait.onSeen(performance.now());
    }
  }

  /** Times at which `text` has come to `sidecars` of them. @throws Error where it does not within a minute. */
  async all(text: string, sidecars: number): Promise<readonly number[]> {
    const times: number[] = [];
    const done = Promise.withResolvers<void>();
    const wait = {
      text,
      seen: new Set<number>(),
      onSeen: (at: number) => {
        times.push(at);
        if (times.length === sidecars) done.resolve();
      },
    };
    this.#waits.add(wait);
    const late = setTimeout(
      () => done.reject(new Error(`${text} came to ${times.length} of ${sidecars} sidecars`)),
      ARRIVAL_MS,
    );
    try {
      await done.promise;
      return times;
    } finally {
      clearTimeout(late);
      this.#waits.delete(wait);
    }
  }
}

function fill(cluster: StandInCluster, plan: ClusterPlan): void {
  for (const part of ['crds', 'istio-crds', 'base']) {
    for (const file of readdirYaml(join(MANIFESTS, part))) cluster.apply(documents(file));
  }
  const namespaces = Array.from({ length: plan.namespaces }, (_, index) => namespaceOf(index, plan));
  cluster.apply(namespaces.flatMap((name) => [namespaceObject(name), serviceAccountObject(name)]));
  cluster.apply(Array.from({ length: plan.pods }, (_, index) => podObject(index, plan)));
  cluster.apply(Array.from({ length: plan.services }, (_, index) => serviceObject(index, plan)));
  cluster.apply([policyObject(namespaceOf(0, plan), 0)]);
}

function readdirYaml(directory: string): readonly string[] {
  const kustomization = parseAllDocuments(readFileSync(join(directory, 'kustomization.yaml'), 'utf8'))[0]?.toJS();
  const resources: readonly string[] = kustomization.resources;
  return resources.filter((name) => name.endsWith('.yaml')).map((name) => join(directory, name));
}

/** What the control plane needs to run as it does in a cluster, with no more rights than there. */
const NEEDED = [
  'Namespace',
  'CustomResourceDefinition',
  'ServiceAccount',
  'ClusterRole',
  'ClusterRoleBinding',
  'Role',
  'RoleBinding',
];

function documents(file: string): readonly JsonObject[] {
  const all = parseAllDocuments(readFileSync(file, 'utf8')).map((document) => document.toJS() as JsonObject | null);
  return all.filter((object): object is JsonObject => object !== null && NEEDED.includes(String(object.kind)));
}

interface RunningPlane {
  readonly process: RunningProcess;
  readonly port: number;
  /** PEM. */
  readonly ca: string;
}

async function startControlPlane(bench: Workbench, cluster: StandInCluster): Promise<RunningPlane> {
  const { token } = cluster.tokens.issue({
    namespace: 'postern-system',
    serviceAccount: 'postern-control-plane',
    audiences: [],
    seconds: 24 * 3600,
  });
  cluster.kubeconfig(bench.path('kubeconfig'), { token });
  const [port, adminPort] = [await freePort('127.0.0.1'), await freePort('127.0.0.1')];
  writeFileSync(
    bench.path('control-plane.yaml'),
    `listen: 127.0.0.1:${port}
adminListen: 127.0.0.1:${adminPort}
dataDir: ./data
rootNamespace: postern-system
kubernetes:
  kubeconfig: ./kubeconfig
  namespace: postern-system
  podName: measured
  webhooks: false
  injection: { image: "postern:bench" }
`,
  );
  const process = bench.processes.start({
    name: 'control plane',
    command: POSTERN,
    args: ['control-plane', '--config', bench.path('control-plane.yaml')],
    core: bench.cores.proxies,
    stdout: bench.path('control-plane.log'),
    stderr: bench.path('control-plane.err'),
  });
  await bench.until('the control plane is ready', START_MS, async () => {
    process.assertRunning();
    const answer = await fetch(`http://127.0.0.1:${adminPort}/healthz/ready`).catch(() => null);
    return answer?.status === 200;
  });
  const bundle = () =>
    cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, namespaceOf(0, FULL_CLUSTER), 'postern-ca-roots');
  await bench.until('the roots are published', START_MS, () => bundle() !== null);
  const ca = (bundle()?.data as { readonly [key: string]: string } | undefined)?.['root-cert.pem'] ?? '';
  return { process, port, ca };
}

async function connectSidecars(
  cluster: StandInCluster,
  plane: RunningPlane,
  plan: ClusterPlan,
  arrivals: Arrivals,
): Promise<readonly StreamClient[]> {
  const clients: StreamClient[] = [];
  // All of one namespace, so that its policy concerns each of them.
  const indexes = Array.from({ length: plan.pods }, (_, index) => index)
    .filter((index) => (index % plan.services) % plan.namespaces === 0)
    .slice(0, plan.sidecars);
  if (indexes.length < plan.sidecars) throw new Error(`only ${indexes.length} pods are of one namespace`);
  for (let from = 0; from < indexes.length; from += CONNECT_AT_A_TIME) {
    const batch = indexes.slice(from, from + CONNECT_AT_A_TIME).map(async (index, offset) => {
      const namespace = namespaceOf(0, plan);
      const pod = podName(index);
      const { token } = cluster.tokens.issue({
        namespace,
        serviceAccount: 'app',
        pod,
        audiences: ['postern'],
        seconds: 3600,
      });
      const { port, ca } = plane;
      const address = `127.10.${index >> 8}.${index & 255}`;
      const onDelta = (line: string) => arrivals.take(from + offset, line);
      return await StreamClient.connect({ port, ca, namespace, pod, address, token, onDelta });
    });
    clients.push(...(await Promise.all(batch)));
  }
  return clients;
}

async function measurePolicies(
  bench: Workbench,
  cluster: StandInCluster,
  plan: ClusterPlan,
  arrivals: Arrivals,
): Promise<readonly number[]> {
  const all: number[] = [];
  const began = performance.now();
  for (let turn = 1; turn <= plan.rounds && performance.now() - began < plan.limitMs; turn++) {
    const arrived = arrivals.all(`/turn/${turn}"`, plan.sidecars);
    cluster.apply([policyObject(namespaceOf(0, plan), turn)]);
    const at = performance.now();
    all.push(...(await arrived).map((time) => time - at));
    await bench.sleep(300);
  }
  return all;
}

/** Pods are replaced at a steady pace; every second one of them is waited for at every sidecar. */
async function measureChurn(
  bench: Workbench,
  cluster: StandInCluster,
  { plan, arrivals, pid }: { readonly plan: ClusterPlan; readonly arrivals: Arrivals; readonly pid: number },
): Promise<{ readonly churnMs: readonly number[]; readonly cpuPerPod: number }> {
  const meter = startCpuMeter([pid]);
  const waits: Promise<readonly number[]>[] = [];
  let replaced = 0;
  // Those of the connected sidecars stay.
  const victims = Array.from({ length: plan.pods }, (_, index) => index).filter(
    (index) => (index % plan.services) % plan.namespaces !== 0,
  );
  for (let tick = 0; tick < plan.churnSeconds * 10; tick++) {
    const share = plan.churnPerSecond / 10;
    for (let step = 0; step < share; step++) {
      const index = victims[replaced % victims.length] ?? 0;
      const generation = 1 + Math.floor(replaced / victims.length);
      const namespace = namespaceOf(index % plan.services, plan);
      cluster.direct.delete({ apiVersion: 'v1', kind: 'Pod' }, namespace, podName(index, generation - 1));
      const isWatched = tick % 10 === 0 && step === 0;
      const arrived = isWatched
        ? arrivals.all(`"name":"${namespace}/${podName(index, generation)}"`, plan.sidecars)
        : null;
      cluster.apply([podObject(index, plan, generation)]);
      const at = performance.now();
      if (arrived !== null) waits.push(arrived.then((times) => times.map((time) => time - at)));
      replaced += 1;
    }
    await bench.sleep(100);
  }
  const churnMs = (await Promise.all(waits)).flat();
  return { churnMs, cpuPerPod: meter.stop() / replaced };
}
