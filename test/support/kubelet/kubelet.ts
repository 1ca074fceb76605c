import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../../mesh/errors.ts';
import type { JsonObject } from '../../../policy/types.ts';
import type { StandInCluster } from '../kubernetes/cluster.ts';
import { at, nameOf, namespaceOf, textAt, uidOf } from '../kubernetes/objects.ts';
import { command, NODE_ADDRESS, type NodeNetwork } from './node-network.ts';
import { graceOf, PodRunner } from './pod-runner.ts';
import { hostsFile, serviceRules } from './service-rules.ts';

const TICK_MS = 50;
const POD = { apiVersion: 'v1', kind: 'Pod' };
const SERVICE = { apiVersion: 'v1', kind: 'Service' };
const SLICE = { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice' };

export interface KubeletOptions {
  readonly cluster: StandInCluster;
  readonly network: NodeNetwork;
  /** Private, readable by all. */
  readonly directory: string;
}

/**
 * A little kubelet, scheduler and kube-proxy in one: runs the pods of a stand-in on this node, and forwards connections to services. It looks at the
 * store itself, and not through the API; while that is paused it looks at nothing and writes nothing, as one without an API server.
 */
export class Kubelet {
  readonly #options: KubeletOptions;
  readonly #pods = new Map<string, PodRunner>();
  readonly #ending = new Set<PodRunner>();
  readonly #timer: NodeJS.Timeout;
  #rules = '';
  #hosts = '';
  #turn: Promise<void> = Promise.resolve();
  #ticking = false;
  #rounds = 0;
  #stopped = false;
  #failure: unknown = null;

  constructor(options: KubeletOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** @throws Error where there is no such pod, or something went wrong with any */
  pod(namespace: string, name: string): PodRunner {
    this.check();
    const found = this.#pods.get(`${namespace}/${name}`);
    if (found === undefined) throw new Error(`no pod ${namespace}/${name} runs on the node`);
    return found;
  }

  has(namespace: string, name: string): boolean {
    return this.#pods.has(`${namespace}/${name}`);
  }

  /** @throws what went wrong in the kubelet itself */
  check(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /** Resolves when what is so now has been written to the store, and the connections to services follow it. */
  async settled(): Promise<void> {
    // The store's own controllers write after the first round.
    for (const end = this.#rounds + 3; this.#rounds < end; ) {
      this.check();
      await sleep(TICK_MS / 2);
    }
  }

  /** Ends all pods at once. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#turn;
    await Promise.all([...this.#pods.values()].map((pod) => pod.terminate(0)));
  }

  #tick(): void {
    if (this.#ticking || this.#options.cluster.faults.isPaused) return;
    this.#ticking = true;
    this.#turn = this.#look()
      .catch((error: unknown) => {
        this.#failure = error;
        process.stderr.write(`kubelet: ${messageOf(error)}\n`);
      })
      .finally(() => {
        this.#rounds++;
        this.#ticking = false;
      });
  }

  async #look(): Promise<void> {
    const { direct } = this.#options.cluster;
    const pods = new Map(direct.list(POD).flatMap((pod) => (isOurs(pod) ? [[keyOf(pod), pod] as const] : [])));
    for (const [key, runner] of this.#pods) await this.#follow(key, runner, pods.get(key));
    for (const [key, pod] of pods) if (!this.#pods.has(key) && !this.#stopped) await this.#begin(key, pod);
    this.#refresh();
    this.#report();
    await this.#forward();
  }

  async #begin(key: string, pod: JsonObject): Promise<void> {
    const { cluster, directory, network } = this.#options;
    const { direct } = cluster;
    const [namespace, name] = [namespaceOf(pod), nameOf(pod)];
    // It may have ended while this round went on.
    const present = direct.get(POD, namespace, name);
    if (present === null || uidOf(present) !== uidOf(pod)) return;
    const scheduled = direct.update(POD, namespace, name, (one) => ({
      ...one,
      spec: { ...(at(one, 'spec') as JsonObject), nodeName: 'node-1' },
    }));
    const host = await network.addPod();
    const runner = new PodRunner({
      cluster,
      pod: scheduled,
      host,
      directory: join(directory, uidOf(pod)),
      hosts: () =>
        hostsFile(namespace, { name, addresses: [host.ipv4, host.ipv6] }, direct.list(SERVICE), direct.list(SLICE)),
    });
    this.#pods.set(key, runner);
    runner.start().catch((error: unknown) => {
      runner.problem = messageOf(error);
      process.stderr.write(`kubelet: pod ${key}: ${messageOf(error)}\n`);
    });
  }

  /** `pod` as the store has it now; undefined: it was removed without waiting for us. */
  async #follow(key: string, runner: PodRunner, pod: JsonObject | undefined): Promise<void> {
    const gone = pod === undefined || uidOf(pod) !== runner.uid;
    const grace = gone ? 0 : graceOf(pod);
    if (grace === null) return;
    const ended = runner.terminate(grace);
    if (gone) {
      this.#pods.delete(key);
      await ended;
      await this.#remove(runner);
      return;
    }
    if (this.#ending.has(runner)) return;
    this.#ending.add(runner);
    void ended.then(() => this.#ended(key, runner));
  }

  /** The API's object goes when nothing of the pod is left. */
  async #ended(key: string, runner: PodRunner): Promise<void> {
    this.#ending.delete(runner);
    if (this.#pods.get(key) !== runner || this.#stopped) return;
    this.#pods.delete(key);
    this.#writeStatus(runner);
    const [namespace = '', name = ''] = key.split('/');
    this.#options.cluster.direct.delete(POD, namespace, name);
    await this.#remove(runner);
  }

  async #remove(runner: PodRunner): Promise<void> {
    await this.#options.network.removePod(runner.host);
    runner.removeFiles();
  }

  #refresh(): void {
    const { direct } = this.#options.cluster;
    const names = JSON.stringify([direct.list(SERVICE).map((one) => at(one, 'spec')), direct.list(SLICE)]);
    const changed = names !== this.#hosts;
    this.#hosts = names;
    for (const runner of this.#pods.values()) {
      if (changed) runner.refresh();
      else runner.refreshVolumes();
    }
  }

  #report(): void {
    for (const runner of this.#pods.values()) this.#writeStatus(runner);
  }

  #writeStatus(runner: PodRunner): void {
    const { direct } = this.#options.cluster;
    const [namespace = '', name = ''] = runner.key.split('/');
    const present = direct.get(POD, namespace, name);
    if (present === null || uidOf(present) !== runner.uid) return;
    const status = runner.takeStatus();
    if (status !== null) direct.setStatus(POD, namespace, name, status);
  }

  async #forward(): Promise<void> {
    const { cluster } = this.#options;
    const api = { address: NODE_ADDRESS, port: cluster.port };
    const rules = serviceRules(cluster.direct.list(SERVICE), cluster.direct.list(SLICE), api);
    if (rules === this.#rules) return;
    await command(['nft', '-f', '-'], rules);
    this.#rules = rules;
  }
}

const keyOf = (pod: JsonObject): string => `${namespaceOf(pod)}/${nameOf(pod)}`;

/** Others are only entries of the store. */
function isOurs(pod: JsonObject): boolean {
  if (at(pod, 'spec', 'hostNetwork') === true) return false;
  const node = textAt(pod, 'spec', 'nodeName');
  return node === '' || node === 'node-1';
}
