import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import type { CertificateResponse, ServerMessage } from '../../mesh/push.ts';
import { createCsr } from '../../mesh/x509/csr.ts';

export interface StreamClientOptions {
  readonly port: number;
  /** PEM. */
  readonly ca: string;
  readonly namespace: string;
  readonly pod: string;
  /** The pod's address, from which it connects. */
  readonly address: string;
  /** Of the pod's service account. */
  readonly token: string;
  /** Text of each delta as it arrives. Parsing thousands of snapshots would be measured too. */
  readonly onDelta: (line: string) => void;
}

/** What a sidecar says to the control plane, and nothing else of it: a certificate, the stream, acknowledgements. */
export class StreamClient {
  readonly #options: StreamClientOptions;
  readonly #agent: https.Agent;
  #response: IncomingMessage | null = null;
  #rest = '';

  private constructor(options: StreamClientOptions, agent: https.Agent) {
    this.#options = options;
    this.#agent = agent;
  }

  static async connect(options: StreamClientOptions): Promise<StreamClient> {
    const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const spiffeId = `spiffe://cluster.local/ns/${options.namespace}/sa/app`;
    const csr = createCsr({ ...keys, spiffeId });
    const tls = { ca: options.ca, localAddress: options.address, checkServerIdentity: () => undefined };
    const first = new https.Agent({ ...tls });
    const certificate = (await post(first, options, '/v1/certificates', { csr }, options.token)) as CertificateResponse;
    first.destroy();
    const key = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
    const agent = new https.Agent({ ...tls, keepAlive: true, cert: certificate.chain, key });
    const client = new StreamClient(options, agent);
    await client.#open();
    return client;
  }

  close(): void {
    this.#response?.destroy();
    this.#agent.destroy();
  }

  async #open(): Promise<void> {
    const { namespace, pod } = this.#options;
    const workload = {
      name: pod,
      namespace,
      serviceAccount: 'app',
      labels: {},
      addresses: [],
      tunnel: null,
      ports: {},
    };
    const request = https.request(target(this.#options, '/v1/stream', this.#agent));
    request.end(JSON.stringify({ workload, proxyVersion: 'bench', resume: null }));
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`the stream of ${pod} was refused: ${response.statusCode}`);
    this.#response = response;
    response.setEncoding('utf8').on('data', (chunk: string) => this.#take(chunk));
    response.on('error', () => response.destroy());
  }

  #take(chunk: string): void {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('{"type":"delta"')) continue;
      this.#options.onDelta(line);
      const version = /"version":"([^"]+)"/.exec(line)?.[1] ?? '';
      void this.#acknowledge(version);
    }
  }

  /** What goes wrong here shows as sidecars that are behind. */
  async #acknowledge(version: string): Promise<void> {
    const body = { workload: this.#options.pod, version, rejected: [] };
    await post(this.#agent, this.#options, '/v1/ack', body, null).catch(() => undefined);
  }
}

export type Delta = Extract<ServerMessage, { readonly type: 'delta' }>;

function target({ port, address }: StreamClientOptions, path: string, agent: https.Agent): https.RequestOptions {
  return { host: '127.0.0.1', port, path, method: 'POST', agent, localAddress: address, headers: {} };
}

async function post(
  agent: https.Agent,
  options: StreamClientOptions,
  path: string,
  body: object,
  token: string | null,
): Promise<unknown> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const request = https.request({ ...target(options, path, agent), headers });
  request.end(JSON.stringify(body));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  if ((response.statusCode ?? 0) >= 300) throw new Error(`${path} answered ${response.statusCode}: ${text}`);
  return text === '' ? null : JSON.parse(text);
}
