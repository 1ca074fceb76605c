import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';
import { messageOf } from '../../../mesh/errors.ts';
import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import type { ServiceTargets } from './admission.ts';
import { assemble, type ClusterParts, type StandInOptions } from './assembly.ts';
import { BOOTSTRAP_OBJECTS } from './bootstrap-objects.ts';
import { DirectStore } from './direct-store.ts';
import type { Faults, LoggedRequest, RequestPredicate } from './faults.ts';
import type { ServiceAccountTokens } from './tokens.ts';

export type { StandInOptions } from './assembly.ts';

/**
 * A stand-in for a Kubernetes cluster: its API server over TLS, and the few controllers without which a cluster is not one. For tests; what it
 * leaves out is listed in README.md beside this file.
 */
export class StandInCluster {
  /** Who looks into the store, and writes past authorization and admission. */
  readonly direct: DirectStore;
  readonly tokens: ServiceAccountTokens;
  readonly faults: Faults;
  /** `<namespace>/<service>` → `host:port`, for webhooks. */
  readonly services: ServiceTargets;
  readonly #parts: ClusterParts;
  readonly #address: string;
  #port: number;
  #watchTimer: NodeJS.Timeout | null = null;

  private constructor(parts: ClusterParts, address: string, port: number) {
    this.#parts = parts;
    this.#address = address;
    this.#port = port;
    this.direct = new DirectStore(parts.store, parts.types, parts.addresses);
    this.tokens = parts.tokens;
    this.faults = parts.faults;
    this.services = parts.services;
  }

  static async start(options: StandInOptions = {}): Promise<StandInCluster> {
    const cluster = new StandInCluster(assemble(options), options.address ?? '127.0.0.1', options.port ?? 0);
    for (const object of BOOTSTRAP_OBJECTS) cluster.direct.put(object);
    await cluster.start();
    return cluster;
  }

  get url(): string {
    return `https://${this.#address === '0.0.0.0' ? '127.0.0.1' : this.#address}:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** PEM of the CA that signed the server's certificate. */
  get ca(): string {
    return this.#parts.authority.certificate;
  }

  get adminToken(): string {
    return this.#parts.authentication.adminToken;
  }

  /** Streams that are open just now. */
  get watches(): number {
    return this.#parts.watches.count;
  }

  get resourceVersion(): string {
    return String(this.#parts.store.revision);
  }

  /** What was asked so far; may be emptied. */
  get requests(): LoggedRequest[] {
    return this.faults.log;
  }

  /** Listens again, on the same port, with the store as it was. */
  async start(): Promise<void> {
    this.#port = await this.#parts.server.listen(this.#address, this.#port);
  }

  /** Cuts every connection and listens no more; ends a pause and `endWatchesEvery`. The store stays. */
  async stop(): Promise<void> {
    if (this.#watchTimer !== null) clearInterval(this.#watchTimer);
    this.faults.resume();
    await this.#parts.server.close();
  }

  pause(): void {
    this.faults.pause();
  }

  resume(): void {
    this.faults.resume();
    this.#parts.watches.flush();
  }

  delay(ms: number): void {
    this.faults.delay(ms);
  }

  failNext(matches: RequestPredicate, status: number, times = 1): void {
    this.faults.failNext(matches, status, times);
  }

  onRequest(listener: (request: LoggedRequest) => void): () => void {
    return this.faults.onRequest(listener);
  }

  /** Milliseconds; 0 lets watches live again. */
  endWatchesEvery(ms: number): void {
    if (this.#watchTimer !== null) clearInterval(this.#watchTimer);
    this.#watchTimer = ms === 0 ? null : setInterval(() => this.#parts.watches.end(), ms);
  }

  /** Forgets history: every older resourceVersion, and every list that is half read, is answered with 410. */
  compact(options: { readonly goneAs?: 'status' | 'event'; readonly openWatches?: boolean } = {}): void {
    this.#parts.goneAs.value = options.goneAs ?? 'event';
    this.#parts.store.compact();
    this.#parts.lists.forget();
    if (options.openWatches === true) this.#parts.watches.expire();
  }

  /** Milliseconds by which the server's clock is ahead of the real one: tokens are issued and checked by it, objects created and deleted. */
  skewClock(ms: number): void {
    this.#parts.skew.value = ms;
  }

  /** A user with a token of its own; what it may do RBAC says. Returns the token. */
  addUser(username: string, groups: readonly string[] = []): string {
    const token = `user-${username}-${Math.random().toString(36).slice(2)}`;
    this.#parts.authentication.addUser(token, username, groups);
    return token;
  }

  /** A client certificate that the server knows. */
  clientCertificate(user: string, groups: readonly string[] = []): { readonly cert: string; readonly key: string } {
    return this.#parts.authority.client(user, groups);
  }

  /** Puts objects into the store, in the order given, past authorization and admission. YAML may hold several documents. */
  apply(objects: string | readonly JsonObject[]): readonly JsonObject[] {
    const list = typeof objects === 'string' ? documents(objects) : objects;
    return list.map((object) => this.direct.put(object));
  }

  /**
   * Writes what a pod finds at /var/run/secrets/kubernetes.io/serviceaccount: `token`, `ca.crt` and `namespace`. Returns the environment that goes
   * with it. Without a pod the token is bound to the account alone.
   */
  inClusterFiles(
    directory: string,
    pod: {
      readonly namespace: string;
      readonly serviceAccount: string;
      readonly pod?: string;
      readonly seconds?: number;
    },
  ): { readonly KUBERNETES_SERVICE_HOST: string; readonly KUBERNETES_SERVICE_PORT: string } {
    const { token } = this.tokens.issue({ seconds: 3600, ...pod, audiences: [] });
    const files = { token, 'ca.crt': this.ca, namespace: pod.namespace };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text, { mode: 0o600 });
    const { hostname, port } = new URL(this.url);
    return { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port };
  }

  /** Writes a kubeconfig for a user, the admin by default; its text. */
  kubeconfig(
    path: string | null,
    user: { readonly token: string } | { readonly cert: string; readonly key: string } = { token: this.adminToken },
  ): string {
    const base64 = (text: string): string => Buffer.from(text).toString('base64');
    const text = stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'stand-in',
      clusters: [{ name: 'stand-in', cluster: { server: this.url, 'certificate-authority-data': base64(this.ca) } }],
      contexts: [{ name: 'stand-in', context: { cluster: 'stand-in', user: 'tester', namespace: 'default' } }],
      users: [
        {
          name: 'tester',
          user:
            'token' in user
              ? { token: user.token }
              : { 'client-certificate-data': base64(user.cert), 'client-key-data': base64(user.key) },
        },
      ],
    });
    if (path !== null) writeFileSync(path, text, { mode: 0o600 });
    return text;
  }
}

function documents(text: string): readonly JsonObject[] {
  return parseAllDocuments(text).flatMap((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw new Error(`not YAML: ${messageOf(error)}`);
    const object = asObject(document.toJS() as JsonValue);
    return object === null ? [] : [object];
  });
}
