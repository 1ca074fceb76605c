import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pino } from 'pino';
import { parseControlPlaneConfig } from '../../control-plane/config.ts';
import { ControlPlane } from '../../control-plane/control-plane.ts';
import { LocalPlatform } from '../../control-plane/local/local-platform.ts';
import { ControlPlaneMetrics } from '../../control-plane/metrics.ts';
import type { CertificateResponse, ServerMessage, StreamRequest, WorkloadRegistration } from '../../mesh/push.ts';
import { keyOf, type RejectedResource, type Resource, type ResourceKey } from '../../mesh/resources.ts';
import { createCsr } from '../../mesh/x509/csr.ts';
import { eventually } from '../support/eventually.ts';

export function temporaryDirectory(): string {
  return fs.mkdtempSync(join(tmpdir(), 'postern-cp-'));
}

export class TestPlane {
  readonly directory: string;
  readonly plane: ControlPlane;
  readonly ca: string;

  private constructor(directory: string, plane: ControlPlane) {
    this.directory = directory;
    this.plane = plane;
    this.ca = fs.readFileSync(join(directory, 'data', 'ca.pem'), 'utf8');
  }

  /** `settings` is YAML added to the configuration; `manifests` are files by name. */
  static async start(
    options: {
      readonly manifests?: { readonly [name: string]: string };
      readonly settings?: string;
      readonly directory?: string;
      readonly port?: number;
    } = {},
  ): Promise<TestPlane> {
    const directory = options.directory ?? temporaryDirectory();
    fs.mkdirSync(join(directory, 'manifests'), { recursive: true });
    for (const [name, text] of Object.entries(options.manifests ?? {})) {
      fs.writeFileSync(join(directory, 'manifests', name), text);
    }
    const text = `listen: 127.0.0.1:${options.port ?? 0}\nadminListen: 127.0.0.1:0\n${options.settings ?? ''}`;
    const config = parseControlPlaneConfig(text, join(directory, 'control-plane.yaml'));
    const log = pino({ level: process.env.POSTERN_TEST_LOG ?? 'silent' });
    const metrics = new ControlPlaneMetrics();
    const platform = new LocalPlatform(config, log, metrics);
    return new TestPlane(directory, await ControlPlane.start({ config, platform, log, metrics }));
  }

  write(name: string, text: string): void {
    const path = join(this.directory, 'manifests', name);
    fs.writeFileSync(`${path}.tmp`, text);
    fs.renameSync(`${path}.tmp`, path);
  }

  remove(name: string): void {
    fs.rmSync(join(this.directory, 'manifests', name));
  }

  get url(): string {
    return `https://127.0.0.1:${this.plane.port}`;
  }

  async admin(method: string, path: string, body?: unknown): Promise<string> {
    const request = http.request({ socketPath: join(this.directory, 'data', 'admin.sock'), method, path });
    request.end(body === undefined ? undefined : JSON.stringify(body));
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return await readAll(response);
  }

  async token(serviceAccount: string, labels?: { readonly [key: string]: string }): Promise<string> {
    const answer = JSON.parse(await this.admin('POST', '/tokens', { namespace: 'shop', serviceAccount, labels }));
    return answer.token;
  }

  async metrics(): Promise<string> {
    return await (await fetch(`http://127.0.0.1:${this.plane.adminPort}/metrics`)).text();
  }

  async stop(): Promise<void> {
    await this.plane.stop();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly code: string | null;
}

/** A sidecar's key and, once joined, its certificate. */
export class TestSidecar {
  readonly plane: TestPlane;
  readonly serviceAccount: string;
  readonly #key: { readonly privateKey: KeyObject; readonly publicKey: KeyObject };
  certificate: CertificateResponse | null = null;

  constructor(plane: TestPlane, serviceAccount: string) {
    this.plane = plane;
    this.serviceAccount = serviceAccount;
    this.#key = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  }

  static async join(
    plane: TestPlane,
    serviceAccount: string,
    labels?: { readonly [key: string]: string },
  ): Promise<TestSidecar> {
    const sidecar = new TestSidecar(plane, serviceAccount);
    const answer = await sidecar.requestCertificate({ token: await plane.token(serviceAccount, labels) });
    if (answer.status !== 200) throw new Error(`could not join: ${answer.body}`);
    sidecar.certificate = JSON.parse(answer.body);
    return sidecar;
  }

  get uri(): string {
    return `spiffe://cluster.local/ns/shop/sa/${this.serviceAccount}`;
  }

  csr(uri: string = this.uri): string {
    return createCsr({ ...this.#key, spiffeId: uri });
  }

  tls(): { readonly cert: string; readonly key: string } | object {
    if (this.certificate === null) return {};
    return {
      cert: this.certificate.chain,
      key: this.#key.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    };
  }

  requestCertificate(options: {
    readonly token?: string;
    readonly csr?: string;
    readonly spiffeId?: string;
    readonly ttlSeconds?: number;
  }): Promise<Answer> {
    const { token, csr = this.csr(), ...rest } = options;
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    return this.post('/v1/certificates', { csr, ...rest }, headers);
  }

  async post(path: string, body: unknown, headers: { readonly [name: string]: string } = {}): Promise<Answer> {
    const request = this.request('POST', path, headers);
    request.end(typeof body === 'string' ? body : JSON.stringify(body));
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    const text = await readAll(response);
    return { status: response.statusCode ?? 0, body: text, code: codeOf(text) };
  }

  request(method: string, path: string, headers: { readonly [name: string]: string } = {}): http.ClientRequest {
    const { ca, url } = this.plane;
    return https.request(new URL(path, url), { method, headers, ca, agent: false, ...this.tls() });
  }

  registration(name: string, more: Partial<WorkloadRegistration> = {}): WorkloadRegistration {
    return {
      name,
      namespace: 'shop',
      serviceAccount: this.serviceAccount,
      labels: { app: this.serviceAccount },
      addresses: [],
      tunnel: null,
      ports: {},
      ...more,
    };
  }

  /** Opens a stream; throws an `Answer`-carrying error where it is refused. */
  async stream(
    name: string,
    options: { readonly resume?: string | null; readonly workload?: Partial<WorkloadRegistration> } = {},
  ): Promise<TestStream> {
    const body: StreamRequest = {
      workload: this.registration(name, options.workload),
      proxyVersion: 'test',
      resume: options.resume === undefined || options.resume === null ? null : { version: options.resume },
    };
    const request = this.request('POST', '/v1/stream');
    request.end(JSON.stringify(body));
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    if (response.statusCode !== 200) throw new Error(codeOf(await readAll(response)) ?? 'refused');
    return new TestStream(this, name, response);
  }

  ack(workload: string, version: string, rejected: readonly RejectedResource[] = []): Promise<Answer> {
    return this.post('/v1/ack', { workload, version, rejected });
  }
}

type Delta = Extract<ServerMessage, { readonly type: 'delta' }>;

/** What a sidecar makes of its stream. */
export class TestStream {
  readonly deltas: Delta[] = [];
  readonly resources = new Map<ResourceKey, Resource>();
  readonly response: http.IncomingMessage;
  goodbye: Extract<ServerMessage, { readonly type: 'goodbye' }> | null = null;
  ended = false;
  readonly #sidecar: TestSidecar;
  readonly #name: string;

  constructor(sidecar: TestSidecar, name: string, response: http.IncomingMessage) {
    this.#sidecar = sidecar;
    this.#name = name;
    this.response = response;
    const lines = createInterface({ input: response });
    lines.on('line', (line) => this.#take(JSON.parse(line)));
    lines.on('close', () => {
      this.ended = true;
    });
    response.on('error', () => {
      this.ended = true;
    });
  }

  get version(): string | null {
    return this.deltas.at(-1)?.version ?? null;
  }

  keys(kind?: Resource['kind']): string[] {
    return [...this.resources.keys()].filter((key) => kind === undefined || key.startsWith(`${kind}/`)).sort();
  }

  async first(): Promise<Delta> {
    return await eventually(() => this.deltas[0], { what: 'the first delta' });
  }

  async has(key: ResourceKey): Promise<Resource> {
    return await eventually(() => this.resources.get(key), { what: `the resource ${key}` });
  }

  async loses(key: ResourceKey): Promise<void> {
    await eventually(() => !this.resources.has(key), { what: `the loss of ${key}` });
  }

  async acknowledge(rejected: readonly RejectedResource[] = []): Promise<Answer> {
    return await this.#sidecar.ack(this.#name, this.version ?? '', rejected);
  }

  close(): void {
    this.response.destroy();
  }

  #take(message: ServerMessage): void {
    if (message.type === 'goodbye') this.goodbye = message;
    if (message.type !== 'delta') return;
    if (message.full) this.resources.clear();
    for (const key of message.removes) this.resources.delete(key);
    for (const resource of message.upserts) this.resources.set(keyOf(resource), resource);
    this.deltas.push(message);
  }
}

async function readAll(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

function codeOf(text: string): string | null {
  try {
    const { code } = JSON.parse(text);
    return typeof code === 'string' ? code : null;
  } catch {
    return null;
  }
}

export const SERVICE = (name: string, more = ''): string => `
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop${more} }
spec: { selector: { app: ${name} }, ports: [ { name: tcp, port: 80, targetPort: 8080 } ] }
`;

export const ALLOW_ALL = (name: string, app: string): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ${name}, namespace: shop }
spec: { selector: { matchLabels: { app: ${app} } }, rules: [ {} ] }
`;
