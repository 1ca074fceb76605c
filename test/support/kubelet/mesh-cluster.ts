import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { renderKustomizations } from '../../../kubernetes/install/kustomization.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import type { Finished } from '../child.ts';
import { eventually } from '../eventually.ts';
import { RawClient } from '../kubernetes/client.ts';
import { StandInCluster, type StandInOptions } from '../kubernetes/cluster.ts';
import { at, nameOf, objectsAt, textAt } from '../kubernetes/objects.ts';
import { AppPod } from './app-pod.ts';
import { REPOSITORY } from './container-plan.ts';
import { Kubelet } from './kubelet.ts';
import { Machine, type MachineOptions } from './machine.ts';
import { NODE_ADDRESS, NodeNetwork } from './node-network.ts';

export interface MeshClusterOptions {
  /** Of the network's namespaces: a-z, short. */
  readonly name: string;
  /** Of the control plane. */
  readonly replicas: number;
  /** Further settings of the control plane. */
  readonly settings?: { readonly [key: string]: JsonValue };
  readonly standIn?: StandInOptions;
}

export const SYSTEM = 'postern-system';
const POD = { apiVersion: 'v1', kind: 'Pod' };
const CONTROL_PLANE = 'postern-control-plane';
const READY_MS = 60_000;

/** Plurals of the kinds that tests write. */
const PATHS: { readonly [kind: string]: string } = {
  Namespace: '/api/v1/namespaces',
  Pod: '/api/v1/namespaces/{}/pods',
  Service: '/api/v1/namespaces/{}/services',
  ServiceAccount: '/api/v1/namespaces/{}/serviceaccounts',
  AuthorizationPolicy: '/apis/security.istio.io/v1/namespaces/{}/authorizationpolicies',
  PeerAuthentication: '/apis/security.istio.io/v1/namespaces/{}/peerauthentications',
  WorkloadEntry: '/apis/networking.istio.io/v1/namespaces/{}/workloadentries',
  Revocation: '/apis/postern.dev/v1/revocations',
  MeshConfig: '/apis/postern.dev/v1/meshconfigs',
};

/**
 * A stand-in cluster with a node, in which Postern is installed from this repository's manifests. Objects are written through the API, so that the
 * running control plane's webhooks see them.
 */
export class MeshCluster {
  readonly cluster: StandInCluster;
  readonly kubelet: Kubelet;
  readonly api: RawClient;
  readonly directory: string;
  readonly #network: NodeNetwork;
  #replicas = 0;

  private constructor(cluster: StandInCluster, network: NodeNetwork, directory: string) {
    this.cluster = cluster;
    this.#network = network;
    this.directory = directory;
    this.api = new RawClient(cluster);
    this.kubelet = new Kubelet({ cluster, network, directory });
  }

  /** Resolves when the control plane serves, leads and can inject. */
  static async start(options: MeshClusterOptions): Promise<MeshCluster> {
    const network = await NodeNetwork.create(options.name);
    const directory = mkdtempSync(join(tmpdir(), 'postern-kubelet-'));
    chmodSync(directory, 0o755);
    const hosts = { address: NODE_ADDRESS, hosts: [NODE_ADDRESS] };
    const cluster = await StandInCluster.start({ ...hosts, ...options.standIn }).catch(async (error: unknown) => {
      await network.destroy();
      throw error;
    });
    const mesh = new MeshCluster(cluster, network, directory);
    try {
      mesh.#install(options.settings ?? {});
      for (let i = 0; i < options.replicas; i++) mesh.addReplica();
      await mesh.ready(...mesh.replicas.map((name) => `${SYSTEM}/${name}`));
      await mesh.#canInject();
      return mesh;
    } catch (error) {
      await mesh.stop();
      throw error;
    }
  }

  /** Names of the control plane's pods. */
  get replicas(): readonly string[] {
    return this.cluster.direct
      .list({ apiVersion: 'v1', kind: 'Pod' }, SYSTEM)
      .filter((pod) => textAt(pod, 'metadata', 'labels', 'app.kubernetes.io/name') === CONTROL_PLANE)
      .map(nameOf);
  }

  /** One more, as the Deployment's template says; its name. */
  addReplica(): string {
    const name = `${CONTROL_PLANE}-${++this.#replicas}`;
    const deployment = this.cluster.direct.get({ apiVersion: 'apps/v1', kind: 'Deployment' }, SYSTEM, CONTROL_PLANE);
    const template = at(deployment ?? undefined, 'spec', 'template') as JsonObject;
    const metadata = { ...(at(template, 'metadata') as JsonObject), name, namespace: SYSTEM };
    this.cluster.direct.put({ ...template, apiVersion: 'v1', kind: 'Pod', metadata });
    return name;
  }

  /** Waits until a replica leads, by its own word: the lease may still name one that has lost it. Its name. */
  async leading(timeoutMs: number): Promise<string> {
    const leads = async (name: string): Promise<boolean> => {
      const { ipv4 } = this.kubelet.pod(SYSTEM, name).host;
      const answer = await fetch(`http://${ipv4}:15014/metrics`, { signal: AbortSignal.timeout(2_000) });
      return /^postern_leader 1$/m.test(await answer.text());
    };
    const find = async (): Promise<string | undefined> => {
      const all = await Promise.all(
        this.replicas.map(async (name) => ((await leads(name).catch(() => false)) ? name : '')),
      );
      return all.find((name) => name !== '');
    };
    return await eventually(find, { what: 'a leader', timeoutMs, everyMs: 100 });
  }

  /** `postern …` in a pod of the control plane. */
  async postern(pod: string, ...args: readonly string[]): Promise<Finished> {
    const { process } = this.kubelet.pod(SYSTEM, pod).container('control-plane');
    return await process.exec(['postern', ...args], 120_000);
  }

  /** Server-side apply, by the API. @throws Error in the API's words */
  async apply(...objects: readonly JsonObject[]): Promise<void> {
    for (const object of objects) {
      const path = `${this.#pathOf(object)}/${nameOf(object)}?fieldManager=test&force=true`;
      const answer = await this.api.call('PATCH', path, object, { contentType: 'application/apply-patch+yaml' });
      if (answer.status > 201) throw new Error(`${nameOf(object)}: ${textAt(answer.body, 'message')}`);
    }
  }

  /** A POST of the object. @throws Error in the API's words */
  async create(object: JsonObject): Promise<void> {
    const answer = await this.api.call('POST', this.#pathOf(object), object);
    if (answer.status !== 201) throw new Error(`${nameOf(object)}: ${textAt(answer.body, 'message')}`);
  }

  async delete(kind: string, namespace: string, name: string): Promise<void> {
    const path = this.#pathOf({ kind, metadata: { namespace } });
    const { status, body } = await this.api.call('DELETE', `${path}/${name}`);
    if (status > 202) throw new Error(`${name}: ${textAt(body, 'message')}`);
  }

  /** Deletes a pod, and waits until it is gone. */
  async remove(namespace: string, name: string): Promise<void> {
    await this.delete('Pod', namespace, name);
    await this.gone(namespace, name);
  }

  /** Waits until neither the kubelet nor the API has the pod: only then is its name free. */
  async gone(namespace: string, name: string): Promise<void> {
    const isGone = (): boolean =>
      !this.kubelet.has(namespace, name) && this.cluster.direct.get(POD, namespace, name) === null;
    await eventually(isGone, { what: `${namespace}/${name} to be gone`, timeoutMs: 60_000 });
  }

  /** Runs the test application as a job that calls `url` five times, to its end: its phase and the exit code of its sidecar. */
  async job(namespace: string, name: string, serviceAccount: string, url: string): Promise<JobEnd> {
    const options = { serviceAccount, args: ['job', url, '5'], restartPolicy: 'Never', readinessProbe: null } as const;
    await this.create(appPod(namespace, name, options));
    const phase = (): string => textAt(this.cluster.direct.get(POD, namespace, name) ?? undefined, 'status', 'phase');
    await eventually(() => ['Succeeded', 'Failed'].includes(phase()), {
      what: `the end of ${namespace}/${name}`,
      timeoutMs: 60_000,
    });
    const pod = this.kubelet.pod(namespace, name);
    return { phase: phase(), sidecarExit: pod.container('postern-proxy').exitCode, tail: pod.tail() };
  }

  /** Creates a pod of the test application, and waits until it is ready where it serves. */
  async app(namespace: string, name: string, options: AppOptions = {}): Promise<AppPod> {
    await this.create(appPod(namespace, name, options));
    await this.ready(`${namespace}/${name}`);
    return this.appPod(namespace, name);
  }

  /** A host of the node's network that is no pod. Ended by `stop`. */
  async machine(options: Omit<MachineOptions, 'host' | 'directory'>): Promise<Machine> {
    const host = await this.#network.addPod();
    return new Machine({ ...options, host, directory: join(this.directory, `machine-${options.name}`) });
  }

  appPod(namespace: string, name: string): AppPod {
    return new AppPod(this.kubelet.pod(namespace, name));
  }

  /** Waits until these pods, `namespace/name`, are ready. */
  async ready(...pods: readonly string[]): Promise<void> {
    for (const key of pods) {
      const [namespace = '', name = ''] = key.split('/');
      const isReady = (): boolean => this.kubelet.pod(namespace, name).isReady;
      await eventually(isReady, { what: `${key} to be ready`, timeoutMs: READY_MS, everyMs: 50 }).catch(
        (error: unknown) => {
          const tail = this.kubelet.has(namespace, name) ? this.kubelet.pod(namespace, name).tail() : 'it is not there';
          throw new Error(`${key} does not become ready: ${tail}`, { cause: error });
        },
      );
    }
    await this.kubelet.settled();
  }

  async stop(): Promise<void> {
    await this.kubelet.stop();
    await this.api.close();
    await this.cluster.stop();
    await this.#network.destroy();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #pathOf(object: JsonObject): string {
    const path = PATHS[textAt(object, 'kind')];
    if (path === undefined) throw new Error(`the test client does not know the kind ${textAt(object, 'kind')}`);
    return path.replace('{}', textAt(object, 'metadata', 'namespace'));
  }

  #install(settings: { readonly [key: string]: JsonValue }): void {
    const manifests = ['istio-crds', 'overlays/ha'].map((name) => join(REPOSITORY, 'manifests/kubernetes', name));
    this.cluster.apply(renderKustomizations(manifests));
    this.cluster.direct.update({ apiVersion: 'v1', kind: 'ConfigMap' }, SYSTEM, CONTROL_PLANE, (object) => {
      const key = 'control-plane.yaml';
      const config = parse(textAt(object, 'data', key)) as JsonObject;
      return { ...object, data: { [key]: stringify({ ...config, ...settings }) } };
    });
    const service = this.cluster.direct.get({ apiVersion: 'v1', kind: 'Service' }, SYSTEM, CONTROL_PLANE);
    this.cluster.services.set(`${SYSTEM}/${CONTROL_PLANE}`, `${textAt(service ?? undefined, 'spec', 'clusterIP')}:443`);
  }

  /** The API server can call the webhooks once the leader has said by which certificates they are known. */
  async #canInject(): Promise<void> {
    const kind = { apiVersion: 'admissionregistration.k8s.io/v1', kind: 'MutatingWebhookConfiguration' };
    const known = (): boolean =>
      objectsAt(this.cluster.direct.get(kind, '', 'postern') ?? undefined, 'webhooks').every(
        (webhook) => textAt(webhook, 'clientConfig', 'caBundle') !== '',
      );
    await eventually(known, { what: 'the caBundle of the webhooks', timeoutMs: READY_MS });
  }
}

export interface JobEnd {
  readonly phase: string;
  readonly sidecarExit: number | null;
  /** The last words of its containers. */
  readonly tail: string;
}

export interface AppOptions {
  readonly labels?: { readonly [key: string]: string };
  readonly annotations?: { readonly [key: string]: string };
  readonly serviceAccount?: string;
  readonly args?: readonly string[];
  readonly restartPolicy?: 'Always' | 'OnFailure' | 'Never';
  readonly graceSeconds?: number;
  /** How long the application goes on after it has been told to end; default 2. */
  readonly preStopSeconds?: number;
  /** Default: of HTTP, on its port. */
  readonly readinessProbe?: JsonObject | null;
}

export const APP_PORT = 8080;

export function appPod(namespace: string, name: string, options: AppOptions = {}): JsonObject {
  const {
    labels = { app: name.replace(/-\d+$/, '') },
    annotations = {},
    graceSeconds = 20,
    restartPolicy = 'Always',
  } = options;
  const probe =
    options.readinessProbe === undefined
      ? { httpGet: { path: '/health', port: 'http' }, periodSeconds: 1 }
      : options.readinessProbe;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels, annotations },
    spec: {
      serviceAccountName: options.serviceAccount ?? 'default',
      restartPolicy,
      terminationGracePeriodSeconds: graceSeconds,
      containers: [
        {
          name: 'app',
          image: 'example/app:1',
          args: [...(options.args ?? ['serve', String(APP_PORT)])],
          ports: [{ name: 'http', containerPort: APP_PORT }],
          ...(probe === null ? {} : { readinessProbe: probe }),
          // As anybody does whose callers have to learn first that the pod goes.
          lifecycle: { preStop: { exec: { command: ['sleep', String(options.preStopSeconds ?? 2)] } } },
        },
      ],
    },
  };
}
