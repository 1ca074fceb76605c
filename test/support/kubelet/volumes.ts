import { chmodSync, chownSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { JsonObject } from '../../../policy/types.ts';
import type { StandInCluster } from '../kubernetes/cluster.ts';
import { at, nameOf, namespaceOf, objectsAt, textAt } from '../kubernetes/objects.ts';
import { fieldOf } from './environment.ts';

/** When tokens are made anew: after this part of their life, as the kubelet does. */
const REFRESH = 0.8;
const API_ACCESS = 'kube-api-access';
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

  #refreshOne(volume: JsonObject): boolean {
    const path = this.pathOf(textAt(volume, 'name'));
    if (at(volume, 'emptyDir') !== undefined) {
      this.#makeEmpty(path);
      return true;
    }
    const content = this.#contentOf(volume);
    if (content === null) return false;
    const mode = Number(at(volume, 'projected', 'defaultMode') ?? at(volume, 'configMap', 'defaultMode') ?? 0o644);
    for (const [file, text] of content) replace(join(path, file), text, mode);
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
      return new Map([[textAt(token, 'path'), this.#token(volume, textAt(token, 'audience'), seconds)]]);
    }
    const configMap = at(source, 'configMap');
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
    const { token } = this.#cluster.tokens.issue({
      namespace: namespaceOf(this.#pod),
      serviceAccount: textAt(this.#pod, 'spec', 'serviceAccountName') || 'default',
      audiences: audience === '' ? [] : [audience],
      seconds,
      pod: nameOf(this.#pod),
    });
    this.#tokens.set(volume, { token, refreshAt: Date.now() + seconds * 1000 * REFRESH });
    return token;
  }

  /** What the admission of service accounts mounts into every container. */
  #apiAccess(): JsonObject {
    const ca = join(this.pathOf(API_ACCESS), 'ca.crt');
    replace(ca, this.#cluster.ca, 0o644);
    const namespace = { path: 'namespace', fieldRef: { fieldPath: 'metadata.namespace' } };
    const sources = [
      { serviceAccountToken: { path: 'token', expirationSeconds: 3607 } },
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

/** In one go: whoever reads sees the old or the new, in the same directory. */
function replace(path: string, text: string, mode: number): void {
  try {
    if (readFileSync(path, 'utf8') === text) return;
  } catch {
    mkdirSync(dirname(path), { recursive: true });
  }
  writeFileSync(`${path}.new`, text);
  chmodSync(`${path}.new`, mode);
  renameSync(`${path}.new`, path);
}
