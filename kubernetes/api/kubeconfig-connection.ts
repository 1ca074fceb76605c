import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { readFileBounded } from '../../mesh/atomic-file.ts';
import { PosternError } from '../../mesh/errors.ts';
import { asObject, field, isAbsent } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import type { Access, Connection, TlsMaterial } from './connection.ts';
import { CredentialFile, checkedToken, credentialsError } from './credential-file.ts';
import { type ExecCredential, ExecPlugin, readExecSettings } from './exec-plugin.ts';
import { type Kubeconfig, mergeKubeconfigs, parseKubeconfig, selectContext } from './kubeconfig.ts';
import { EntryReader } from './kubeconfig-entry.ts';

const MAX_BYTES = 1024 * 1024;

export interface KubeconfigOptions {
  /** One file; absent: those that KUBECONFIG lists, else `~/.kube/config`. */
  readonly path?: string | undefined;
  /** Absent: the current one. */
  readonly context?: string | undefined;
  readonly environment?: { readonly [name: string]: string | undefined };
  readonly home?: string;
}

/**
 * The connection that a kubeconfig describes. What would weaken it (no check of the server's certificate, passwords) or is not understood
 * (proxies, impersonation) is refused rather than left out.
 *
 * @throws PosternError ERR_KUBERNETES_CREDENTIALS
 */
export function fromKubeconfig(options: KubeconfigOptions = {}): Connection {
  const { cluster, user, namespace } = selectContext(readKubeconfig(options), options.context ?? null);
  const { server, ca, serverName, info } = readCluster(new EntryReader(cluster, 'cluster'));
  const tls: TlsMaterial = { ca, serverName, client: null };
  if (user === null) return new KubeconfigConnection(server, namespace, tls, ANONYMOUS);
  const reader = new EntryReader(user, 'user');
  const client = readClientCertificate(reader);
  return new KubeconfigConnection(server, namespace, { ...tls, client }, readCredentials(reader, info));
}

function readKubeconfig({ path, environment = process.env, home = homedir() }: KubeconfigOptions): Kubeconfig {
  const listed = (environment.KUBECONFIG ?? '').split(delimiter).filter((part) => part !== '');
  const paths = path !== undefined ? [path] : listed.length > 0 ? listed : [join(home, '.kube', 'config')];
  const files = paths.flatMap((file) => {
    try {
      return [parseKubeconfig(readFileBounded(file, MAX_BYTES).toString('utf8'), file)];
    } catch (error) {
      // As kubectl does: files of a list may be missing.
      if (error instanceof PosternError && error.code === 'ERR_FILE_MISSING' && path === undefined) return [];
      throw error instanceof PosternError && error.code.startsWith('ERR_FILE')
        ? credentialsError(`the kubeconfig cannot be read: ${error.message}`, error)
        : error;
    }
  });
  if (files.length === 0) {
    throw credentialsError(`there is no kubeconfig: ${paths.join(', ')} does not exist; name one, or set KUBECONFIG`);
  }
  return mergeKubeconfigs(files);
}

interface ClusterSettings {
  readonly server: string;
  readonly ca: string | null;
  readonly serverName: string | null;
  /** What a credential plugin may ask to know of it. */
  readonly info: JsonObject;
}

function readCluster(reader: EntryReader): ClusterSettings {
  reader.refuse(
    'insecure-skip-tls-verify',
    "whoever answers would be believed; give the cluster's CA in certificate-authority-data",
  );
  reader.refuse('proxy-url', 'proxies are not used; take a server address that can be reached');
  reader.onlyFields([
    'server',
    'tls-server-name',
    'certificate-authority',
    'certificate-authority-data',
    'insecure-skip-tls-verify',
    'proxy-url',
    'disable-compression',
  ]);
  const text = reader.string('server') ?? reader.fail('server is missing');
  const url = URL.canParse(text) ? new URL(text) : reader.fail('server is not a URL');
  const plain = url.username === '' && url.password === '' && url.search === '' && url.hash === '';
  if (url.protocol !== 'https:' || !plain) reader.fail('server must be https://HOST:PORT, without user, query or hash');
  const ca = reader.certificates('certificate-authority');
  const serverName = reader.string('tls-server-name');
  const server = `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
  const info: JsonObject = {
    server,
    ...(ca === null ? {} : { 'certificate-authority-data': Buffer.from(ca).toString('base64') }),
    ...(serverName === null ? {} : { 'tls-server-name': serverName }),
  };
  return { server, ca, serverName, info };
}

function readClientCertificate(reader: EntryReader): TlsMaterial['client'] {
  const certificate = reader.certificates('client-certificate');
  const key = reader.text('client-key');
  if (certificate === null && key === null) return null;
  if (certificate === null || key === null) return reader.fail('client-certificate and client-key go together');
  return { certificate, key };
}

/** Where the token (or a client certificate of a plugin's) comes from. */
interface Credentials {
  get(): Promise<{ readonly token: string | null; readonly client: TlsMaterial['client'] }>;
  refused(): void;
}

const ANONYMOUS: Credentials = { get: async () => ({ token: null, client: null }), refused: () => {} };

function readCredentials(reader: EntryReader, cluster: JsonObject): Credentials {
  const { body, directory } = reader.entry;
  for (const name of ['username', 'password']) {
    reader.refuse(name, 'API servers take no passwords any more; use a token, a certificate or an exec plugin');
  }
  reader.refuse('auth-provider', 'kubectl dropped it in 1.26; use an exec plugin');
  for (const name of ['as', 'as-uid', 'as-groups', 'as-user-extra']) reader.refuse(name, 'nobody is impersonated');
  reader.onlyFields([
    'token',
    'tokenFile',
    'client-certificate',
    'client-certificate-data',
    'client-key',
    'client-key-data',
    'exec',
    ...['username', 'password', 'auth-provider', 'as', 'as-uid', 'as-groups', 'as-user-extra'],
  ]);
  const exec = field(body, 'exec');
  const tokenFile = reader.path('tokenFile');
  const token = reader.string('token');
  if (!isAbsent(exec)) {
    const settings = asObject(exec) ?? reader.fail('exec must be a map');
    if (tokenFile !== null || token !== null) reader.fail('give one of exec, token and tokenFile');
    return pluginCredentials(
      new ExecPlugin(readExecSettings(settings, directory, cluster, (message) => reader.fail(message))),
    );
  }
  // kubectl prefers the file where both are there.
  if (tokenFile !== null) return fileCredentials(tokenFile);
  if (token === null) return ANONYMOUS;
  const fixed = { token: checkedToken(token, `${reader.entry.file}: the token of user ${reader.entry.name}`) };
  return { get: async () => ({ ...fixed, client: null }), refused: () => {} };
}

function fileCredentials(path: string): Credentials {
  const file = new CredentialFile(path, 'token file of the kubeconfig');
  return {
    get: async () => ({ token: checkedToken(file.read(), path), client: null }),
    refused: () => file.doubt(),
  };
}

function pluginCredentials(plugin: ExecPlugin): Credentials {
  let given: ExecCredential | null = null;
  return {
    get: async () => {
      given = await plugin.credential();
      return given;
    },
    refused: () => {
      if (given !== null) plugin.refused(given);
    },
  };
}

class KubeconfigConnection implements Connection {
  readonly server: string;
  readonly namespace: string | null;
  readonly #credentials: Credentials;
  #tls: TlsMaterial;

  constructor(server: string, namespace: string | null, tls: TlsMaterial, credentials: Credentials) {
    this.server = server;
    this.namespace = namespace;
    this.#tls = tls;
    this.#credentials = credentials;
  }

  async access(): Promise<Access> {
    const { token, client } = await this.#credentials.get();
    // A plugin's certificate takes the place of what was there; the same one leaves the connections as they are.
    if (client !== null && client !== this.#tls.client) this.#tls = { ...this.#tls, client };
    return { tls: this.#tls, token };
  }

  refused(): void {
    this.#credentials.refused();
  }
}
