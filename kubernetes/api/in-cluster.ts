import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { Access, Connection, TlsMaterial } from './connection.ts';
import { CredentialFile, checkedToken } from './credential-file.ts';

/** Where the kubelet puts what a pod's service account is known by. */
const SERVICE_ACCOUNT_DIRECTORY = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface InClusterOptions {
  readonly environment?: { readonly [name: string]: string | undefined };
  readonly directory?: string;
  /** Monotonic clock, milliseconds. */
  readonly now?: () => number;
}

/** @throws PosternError ERR_KUBERNETES_CREDENTIALS where this is not a pod with a service account. */
export function inCluster(options: InClusterOptions = {}): Connection {
  return new InClusterConnection(options);
}

/** Whether the environment is that of a pod. */
export function isInCluster(environment: { readonly [name: string]: string | undefined } = process.env): boolean {
  return (environment.KUBERNETES_SERVICE_HOST ?? '') !== '' && (environment.KUBERNETES_SERVICE_PORT ?? '') !== '';
}

class InClusterConnection implements Connection {
  readonly server: string;
  readonly namespace: string;
  readonly #token: CredentialFile;
  readonly #ca: CredentialFile;
  readonly #tokenPath: string;
  #tls: TlsMaterial;

  constructor({
    environment = process.env,
    directory = SERVICE_ACCOUNT_DIRECTORY,
    now = () => performance.now(),
  }: InClusterOptions) {
    this.server = serverOf(environment);
    const file = (name: string, what: string): CredentialFile => new CredentialFile(join(directory, name), what, now);
    this.#tokenPath = join(directory, 'token');
    this.#token = file('token', "service account's token");
    this.#ca = file('ca.crt', "API server's CA");
    this.namespace = file('namespace', "pod's namespace").read();
    checkedToken(this.#token.read(), this.#tokenPath);
    this.#tls = { ca: this.#ca.read(), serverName: null, client: null };
  }

  async access(): Promise<Access> {
    const ca = this.#ca.read();
    if (ca !== this.#tls.ca) this.#tls = { ...this.#tls, ca };
    return { tls: this.#tls, token: checkedToken(this.#token.read(), this.#tokenPath) };
  }

  refused(): void {
    this.#token.doubt();
  }
}

function serverOf(environment: { readonly [name: string]: string | undefined }): string {
  const host = environment.KUBERNETES_SERVICE_HOST ?? '';
  const port = environment.KUBERNETES_SERVICE_PORT ?? '';
  const server = `https://${isIPv6(host) ? `[${host}]` : host}:${port}`;
  if (host === '' || !/^[1-9][0-9]{0,4}$/.test(port) || !URL.canParse(server)) {
    const message =
      'this is not a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not name an API server; use a kubeconfig';
    throw new PosternError('ERR_KUBERNETES_CREDENTIALS', message, { exitCode: EXIT.config });
  }
  return server;
}
