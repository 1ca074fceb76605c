import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { JsonObject } from '../../../policy/types.ts';
import type { StandInCluster } from '../kubernetes/cluster.ts';
import { at, nameOf, namespaceOf, objectsAt, textAt } from '../kubernetes/objects.ts';
import { fieldOf } from './environment.ts';

/**
 * When tokens are made anew: after this part of their life, as the kubelet does (pkg/kubelet/token): by the node's clock, and by the expiry that the
 * API server has written by its own. One that always looks expired is made anew each time.
 */
const REFRESH = 0.8;
/** Upstream looks at a pod's volumes about every minute. */
const SYNC_MS = 1_000;
const API_ACCESS = 'kube-api-access';
/** In every namespace of a cluster; this stand-in has no controller for it. */
const API_CA = 'kube-root-ca.crt';
export const API_ACCESS_PATH = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Null where something that the volume needs is not there yet. */
type Content = ReadonlyMap<string, string> | null;

interface HeldToken {
  readonly token: string;
  readonly refreshAt: number;
}

/** The volumes of one pod, as directories of the node. */
export class Volumes {
  readonly #cluster: StandInCluster;
  readonly #pod: JsonObject;
  readonly #directory: string;
  readonly #tokens = new Map<string, HeldToken>();
  #spoilt: 'empty' | 'missing' | null = null;

  constructor(cluster: StandInCluster, pod: JsonObject, directory: string) {
    this.#cluster = cluster;
    this.#pod = pod;
    this.#directory = directory;
  }

  pathOf(volume: string): string {
    return join(this.#directory, volume);
  }

  /** Brings all of them up to date. False: something is missing, and the pod has to wait. */
  refresh(): boolean {
    const all = [...objectsAt(this.#pod, 'spec', 'volumes'), this.#apiAccess()];
    return all.map((volume) => this.#refreshOne(volume)).every((complete) => complete);
  }

  /** Makes every token anew, before its time. */
  renewTokens(): void {
    this.#tokens.clear();
    this.refresh();
  }

  /** Tokens for the mesh (any audience but the API server's) as a kubelet in trouble leaves them; null: in order again. */
  spoilTokens(how: 'empty' | 'missing' | null): void {
    this.#spoilt = how;
    this.refresh();
  }

  #refreshOne(volume: JsonObject): boolean {
    const path = this.pathOf(textAt(volume, 'name'));
    if (at(volume, 'emptyDir') !== undefined) {
      this.#makeEmpty(path);
      return true;
    }
    const content = this.#contentOf(volume);
    if (content === null) return false;
    const mode = Number(at(volume, 'projected', 'defaultMode') ?? at(volume, 'configMap', 'defaultMode') ?? 0o644);
    writeAtomically(path, content, mode);
    return true;
  }

  #makeEmpty(path: string): void {
    if (mkdirSync(path, { recursive: true }) === undefined) return;
    const group = at(this.#pod, 'spec', 'securityContext', 'fsGroup');
    if (typeof group === 'number') chownSync(path, 0, group);
    chmodSync(path, typeof group === 'number' ? 0o2777 : 0o777);
  }

  #contentOf(volume: JsonObject): Content {
    const configMap = at(volume, 'configMap');
    if (configMap !== undefined) return this.#configMap(textAt(configMap, 'name'), configMap);
    const sources = objectsAt(volume, 'projected', 'sources');
    if (sources.length === 0) throw new Error(`this kubelet does not know the volume ${JSON.stringify(volume)}`);
    const all = sources.map((source) => this.#projected(textAt(volume, 'name'), source));
    return all.some((one) => one === null) ? null : new Map(all.flatMap((one) => [...(one ?? [])]));
  }

  #projected(volume: string, source: JsonObject): Content {
    const token = at(source, 'serviceAccountToken');
    if (token !== undefined) {
      const seconds = Number(at(token, 'expirationSeconds') ?? 3600);
      const audience = textAt(token, 'audience');
      if (this.#spoilt === 'missing' && audience !== '') return new Map();
      const text = this.#spoilt === 'empty' && audience !== '' ? '' : this.#token(volume, audience, seconds);
      return new Map([[textAt(token, 'path'), text]]);
    }
    const configMap = at(source, 'configMap');
    if (textAt(configMap, 'name') === API_CA) return new Map([['ca.crt', this.#cluster.ca]]);
    if (configMap !== undefined) return this.#configMap(textAt(configMap, 'name'), configMap);
    const items = objectsAt(source, 'downwardAPI', 'items');
    return new Map(
      items.map((item) => [textAt(item, 'path'), fieldOf(this.#pod, textAt(item, 'fieldRef', 'fieldPath'))]),
    );
  }

  #configMap(name: string, reference: ReturnType<typeof at>): Content {
    const found = this.#cluster.direct.get({ apiVersion: 'v1', kind: 'ConfigMap' }, namespaceOf(this.#pod), name);
    if (found === null) return null;
    const data = Object.entries((at(found, 'data') as { [key: string]: string } | undefined) ?? {});
    const items = objectsAt(reference, 'items');
    if (items.length === 0) return new Map(data);
    const wanted = items.map((item) => [textAt(item, 'path'), textAt(found, 'data', textAt(item, 'key'))] as const);
    return wanted.some(([, text]) => text === '') ? null : new Map(wanted);
  }

  #token(volume: string, audience: string, seconds: number): string {
    const held = this.#tokens.get(volume);
    if (held !== undefined && Date.now() < held.refreshAt) return held.token;
    const { token, expiresAt } = this.#cluster.tokens.issue({
      namespace: namespaceOf(this.#pod),
      serviceAccount: textAt(this.#pod, 'spec', 'serviceAccountName') || 'default',
      audiences: audience === '' ? [] : [audience],
      seconds,
      pod: nameOf(this.#pod),
    });
    const due = expiresAt - seconds * 1000 * (1 - REFRESH);
    this.#tokens.set(volume, { token, refreshAt: Math.max(due, Date.now() + SYNC_MS) });
    return token;
  }

  /** What the admission of service accounts mounts into every container. */
  #apiAccess(): JsonObject {
    const namespace = { path: 'namespace', fieldRef: { fieldPath: 'metadata.namespace' } };
    const sources = [
      { serviceAccountToken: { path: 'token', expirationSeconds: 3607 } },
      { configMap: { name: API_CA } },
      { downwardAPI: { items: [namespace] } },
    ];
    return { name: API_ACCESS, projected: { sources } };
  }

  /** `source`, `target`, and whether it can be written, of what a container mounts. */
  mountsOf(container: JsonObject): readonly Mount[] {
    const own = objectsAt(container, 'volumeMounts').map((mount) => ({
      source: this.pathOf(textAt(mount, 'name')),
      target: textAt(mount, 'mountPath'),
      readOnly: at(mount, 'readOnly') === true,
    }));
    if (at(this.#pod, 'spec', 'automountServiceAccountToken') === false) return own;
    return [...own, { source: this.pathOf(API_ACCESS), target: API_ACCESS_PATH, readOnly: true }];
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

/**
 * As the kubelet writes such volumes (pkg/volume/util/atomic_writer.go): a new directory for each content, a symbolic link `..data` to it that is
 * replaced by a rename, and files that are links through `..data`.
 */
function writeAtomically(directory: string, content: ReadonlyMap<string, string>, mode: number): void {
  const data = join(directory, '..data');
  const before = existsSync(data) ? readlinkSync(data) : null;
  const names = before === null ? [] : readdirSync(join(directory, before));
  const same = (name: string): boolean => readFileSync(join(data, name), 'utf8') === content.get(name);
  if (before !== null && names.length === content.size && names.every(same)) return;
  mkdirSync(directory, { recursive: true });
  const next = `..${new Date().toISOString().replaceAll(/[-:TZ]/g, '_')}${count++}`;
  mkdirSync(join(directory, next));
  for (const [name, text] of content) {
    const path = join(directory, next, name);
    writeFileSync(path, text);
    chmodSync(path, mode);
  }
  symlinkSync(next, `${data}_tmp`);
  renameSync(`${data}_tmp`, data);
  for (const name of content.keys()) {
    if (!names.includes(name)) symlinkSync(join('..data', name), join(directory, name));
  }
  for (const name of names) if (!content.has(name)) rmSync(join(directory, name));
  if (before !== null) rmSync(join(directory, before), { recursive: true });
}

let count = 0;
