import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../../../demo/network.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import type { StandInCluster } from '../kubernetes/cluster.ts';
import { at, isDeleting, nameOf, namespaceOf, textAt, timestamp, uidOf } from '../kubernetes/objects.ts';
import { containersIn, planContainer } from './container-plan.ts';
import { NODE_ADDRESS } from './node-network.ts';
import { PodContainer } from './pod-container.ts';
import { Volumes } from './volumes.ts';

export interface PodRunnerOptions {
  readonly cluster: StandInCluster;
  readonly pod: JsonObject;
  readonly host: Host;
  readonly directory: string;
  /** Of /etc/hosts; asked each time services change. */
  readonly hosts: () => string;
}

const VOLUME_POLL_MS = 100;
const DAY_MS = 86_400_000;

interface Member {
  readonly container: PodContainer;
  readonly kind: 'init' | 'sidecar' | 'main';
}

/** One pod from its start to its end, as a kubelet runs it. */
export class PodRunner {
  readonly key: string;
  readonly uid: string;
  readonly host: Host;
  readonly #options: PodRunnerOptions;
  readonly #volumes: Volumes;
  readonly #members: readonly Member[];
  readonly #startedAt = timestamp();
  #initialized = false;
  #ending: Promise<void> | null = null;
  #phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed' = 'Pending';
  #changed = true;
  /** Of conditions, when they last changed. */
  readonly #since = new Map<string, { readonly status: string; readonly at: string }>();
  /** Why it cannot start, for messages. */
  problem: string | null = null;

  constructor(options: PodRunnerOptions) {
    const { cluster, directory, host, pod } = options;
    this.#options = options;
    this.key = `${namespaceOf(pod)}/${nameOf(pod)}`;
    this.uid = uidOf(pod);
    this.host = host;
    this.#volumes = new Volumes(cluster, this.#shown(), join(directory, 'volumes'));
    const policy = textAt(pod, 'spec', 'restartPolicy') || 'Always';
    const member = (spec: JsonObject, kind: Member['kind']): Member => ({
      container: this.#container(spec, kind, policy),
      kind,
    });
    this.#members = [
      ...containersIn(pod, 'initContainers').map((spec) =>
        member(spec, textAt(spec, 'restartPolicy') === 'Always' ? 'sidecar' : 'init'),
      ),
      ...containersIn(pod, 'containers').map((spec) => member(spec, 'main')),
    ];
    mkdirSync(directory, { recursive: true });
  }

  container(name: string): PodContainer {
    const found = this.#members.find(({ container }) => container.name === name)?.container;
    if (found === undefined) throw new Error(`the pod ${this.key} has no container ${name}`);
    return found;
  }

  get isReady(): boolean {
    const lasting = this.#members.filter(({ kind }) => kind !== 'init');
    return this.#initialized && this.#phase === 'Running' && lasting.every(({ container }) => container.isReady);
  }

  /** Starts its containers in order; resolves when the last has been started, or it has ended before. */
  async start(): Promise<void> {
    this.refresh();
    while (!this.#volumes.refresh()) {
      this.problem = 'it waits for its volumes';
      await sleep(VOLUME_POLL_MS);
      if (this.#ending !== null) return;
    }
    this.problem = null;
    for (const { container, kind } of this.#members) {
      if (this.#ending !== null) return;
      if (kind === 'main' && !this.#initialized) {
        this.#initialized = true;
        this.#phase = 'Running';
      }
      await container.start(kind === 'sidecar');
      if (kind !== 'init') continue;
      const code = await container.over;
      if (code === 0) continue;
      this.problem = `init container ${container.name} failed: ${container.tail()}`;
      return await this.#end('Failed');
    }
    this.#change();
    void this.#untilMainEnd();
  }

  /** Brings volumes and names up to date. */
  refresh(): void {
    const directory = join(this.#options.directory, 'etc');
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'hosts.new'), this.#options.hosts());
    renameSync(join(directory, 'hosts.new'), join(directory, 'hosts'));
    this.refreshVolumes();
  }

  refreshVolumes(): void {
    if (this.#ending === null) this.#volumes.refresh();
  }

  renewTokens(): void {
    this.#volumes.renewTokens();
  }

  spoilTokens(how: 'empty' | 'missing' | null): void {
    this.#volumes.spoilTokens(how);
  }

  /** Ends it in good order; resolves when nothing of it runs. The signal comes at once where the time is 0. */
  terminate(graceSeconds: number): Promise<void> {
    this.#ending ??= this.#terminate(graceSeconds * 1000);
    return this.#ending;
  }

  /** Its status, where that has changed since the last time. */
  takeStatus(): { readonly [field: string]: JsonValue } | null {
    if (!this.#changed) return null;
    this.#changed = false;
    return this.#status();
  }

  tail(): string {
    const parts = this.#members.map(
      ({ container }) => `${container.name}: ${JSON.stringify(container.status())}\n${container.tail()}`,
    );
    return `${this.key} (${this.problem ?? this.#phase})\n${parts.join('\n')}`;
  }

  removeFiles(): void {
    rmSync(this.#options.directory, { recursive: true, force: true });
  }

  async #terminate(graceMs: number): Promise<void> {
    const main = this.#members.filter(({ kind }) => kind === 'main').map(({ container }) => container);
    const rest = this.#members.filter(({ kind, container }) => kind !== 'main' && container.isRunning);
    const stopped = main.map((container) => container.stop(graceMs, Promise.resolve()));
    let turn: Promise<unknown> = Promise.all(stopped);
    // Sidecars in reverse order of their start; their hooks have run long since.
    for (const { container } of rest.reverse()) {
      const stopping = container.stop(graceMs, turn);
      stopped.push(stopping);
      turn = Promise.all([turn, stopping]);
    }
    await Promise.all(stopped);
    if (this.#phase === 'Running' || this.#phase === 'Pending') {
      this.#phase = main.every(({ exitCode }) => exitCode === 0) ? 'Succeeded' : 'Failed';
    }
    this.#change();
  }

  /** Pods that run to their end: their sidecars go when the last of the others has. */
  async #untilMainEnd(): Promise<void> {
    const codes = await Promise.all(
      this.#members.filter(({ kind }) => kind === 'main').map(({ container }) => container.over),
    );
    if (this.#ending === null) await this.#end(codes.every((code) => code === 0) ? 'Succeeded' : 'Failed');
  }

  async #end(phase: 'Succeeded' | 'Failed'): Promise<void> {
    await this.terminate(Number(at(this.#options.pod, 'spec', 'terminationGracePeriodSeconds') ?? 30));
    this.#phase = phase;
    this.#change();
  }

  #container(spec: JsonObject, kind: Member['kind'], policy: string): PodContainer {
    const { directory, host, pod } = this.#options;
    const hosts = { source: join(directory, 'etc'), target: '/etc/node', readOnly: true };
    const environment = {
      HOSTNAME: nameOf(pod),
      KUBERNETES_SERVICE_HOST: '10.96.0.1',
      KUBERNETES_SERVICE_PORT: '443',
    };
    return new PodContainer({
      spec,
      host,
      root: join(directory, `root-${textAt(spec, 'name')}`),
      plan: () => planContainer({ pod: this.#shown(), environment }, spec, [...this.#volumes.mountsOf(spec), hosts]),
      restarts: (code) =>
        kind === 'sidecar' || (kind === 'main' && (policy === 'Always' || (policy === 'OnFailure' && code !== 0))),
      onChange: () => this.#change(),
    });
  }

  /** The pod with its addresses, which containers may ask for. */
  #shown(): JsonObject {
    const { host, pod } = this.#options;
    return { ...pod, status: { ...addressesOf(host) } };
  }

  #change(): void {
    this.#changed = true;
  }

  #status(): { readonly [field: string]: JsonValue } {
    const of = (kinds: readonly string[]): JsonValue =>
      this.#members.filter(({ kind }) => kinds.includes(kind)).map(({ container }) => container.status());
    const ready = this.isReady;
    return {
      phase: this.#phase,
      hostIP: NODE_ADDRESS,
      ...addressesOf(this.host),
      startTime: this.#startedAt,
      qosClass: 'Burstable',
      conditions: [
        this.#condition('PodScheduled', true),
        this.#condition('Initialized', this.#initialized),
        this.#condition('ContainersReady', ready),
        this.#condition('Ready', ready),
      ],
      initContainerStatuses: of(['init', 'sidecar']),
      containerStatuses: of(['main']),
    };
  }

  #condition(type: string, holds: boolean): JsonValue {
    const status = holds ? 'True' : 'False';
    const before = this.#since.get(type);
    if (before?.status !== status) this.#since.set(type, { status, at: timestamp() });
    return { type, status, lastTransitionTime: this.#since.get(type)?.at ?? timestamp() };
  }
}

const addressesOf = ({ ipv4, ipv6 }: Host): { readonly [field: string]: JsonValue } => ({
  podIP: ipv4,
  podIPs: [{ ip: ipv4 }, { ip: ipv6 }],
});

/** Seconds that an object's deletion leaves its pod; null where it is not being deleted. */
export function graceOf(pod: JsonObject): number | null {
  if (!isDeleting(pod)) return null;
  const seconds = Number(at(pod, 'metadata', 'deletionGracePeriodSeconds') ?? 30);
  return Math.min(seconds, DAY_MS);
}
