import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fromKubeconfig } from '../../../kubernetes/api/kubeconfig-connection.ts';
import { ClusterAuthority } from '../../support/kubernetes/certificates.ts';

const SECRET = 'c3VwZXItc2VjcmV0';
const authority = new ClusterAuthority();
const client = authority.client('admin', ['system:masters']);
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const now = new AbortController().signal;

let directory: string;
const path = (name: string): string => join(directory, name);
const write = (name: string, text: string): string => {
  writeFileSync(path(name), text);
  return path(name);
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'postern-kubeconfig-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Parts {
  readonly cluster?: object;
  readonly user?: object;
  readonly context?: object;
}

/** JSON is YAML too. */
function config({ cluster = {}, user = {}, context = {} }: Parts = {}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'here',
    clusters: [
      {
        name: 'c',
        cluster: {
          server: 'https://k8s.example:6443',
          'certificate-authority-data': base64(authority.certificate),
          ...cluster,
        },
      },
    ],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'here', context: { cluster: 'c', user: 'u', ...context } }],
  });
}

const read = (parts: Parts) => fromKubeconfig({ path: write('config', config(parts)) });

describe('a kubeconfig', () => {
  test('names server, CA, namespace and token', async () => {
    const connection = read({ user: { token: SECRET }, context: { namespace: 'shop' } });
    expect(connection).toMatchObject({ server: 'https://k8s.example:6443', namespace: 'shop' });
    expect(await connection.access(now)).toEqual({
      tls: { ca: authority.certificate, serverName: null, client: null },
      token: SECRET,
    });
  });

  test('names files by paths from its own directory', async () => {
    mkdirSync(path('pki'));
    write('pki/ca.crt', authority.certificate);
    write('pki/client.crt', client.cert);
    write('pki/client.key', client.key);
    write('pki/token', `${SECRET}\n`);
    const connection = read({
      cluster: { 'certificate-authority-data': null, 'certificate-authority': 'pki/ca.crt', 'tls-server-name': 'api' },
      user: { 'client-certificate': './pki/client.crt', 'client-key': path('pki/client.key'), tokenFile: 'pki/token' },
    });
    expect(await connection.access(now)).toEqual({
      tls: { ca: authority.certificate, serverName: 'api', client: { certificate: client.cert, key: client.key } },
      token: SECRET,
    });
  });

  test('may serve the API below a path, as gateways to several clusters do', () => {
    expect(read({ cluster: { server: 'https://rancher.example/k8s/clusters/c-1/' } }).server).toBe(
      'https://rancher.example/k8s/clusters/c-1',
    );
  });

  test('may have a context without a user', async () => {
    expect((await read({ context: { user: '' } }).access(now)).token).toBeNull();
  });

  test.each<[string, Parts, RegExp]>([
    ['a server that is not checked', { cluster: { 'insecure-skip-tls-verify': true } }, /insecure-skip-tls-verify/],
    ['plain HTTP', { cluster: { server: 'http://127.0.0.1:8001' } }, /https/],
    ['credentials in the address', { cluster: { server: `https://u:${SECRET}@k8s.example` } }, /without user/],
    ['no server', { cluster: { server: null } }, /server is missing/],
    ['a proxy', { cluster: { 'proxy-url': 'http://proxy' } }, /proxy-url/],
    ['an unknown setting of the cluster', { cluster: { 'tls-sever-name': 'api' } }, /tls-sever-name is not supported/],
    ['a CA that is not base64', { cluster: { 'certificate-authority-data': '%%%' } }, /not base64/],
    ['a CA that is none', { cluster: { 'certificate-authority-data': base64('nothing') } }, /no certificate/],
    ['a password', { user: { username: 'u', password: SECRET } }, /username is refused/],
    ['an auth-provider', { user: { 'auth-provider': { name: 'gcp' } } }, /auth-provider is refused/],
    ['impersonation', { user: { token: SECRET, as: 'root' } }, /as is refused/],
    ['an unknown setting of the user', { user: { tokn: SECRET } }, /tokn is not supported/],
    ['half of a client certificate', { user: { 'client-certificate-data': base64(client.cert) } }, /go together/],
    ['a token with blanks', { user: { token: `${SECRET} ${SECRET}` } }, /not a token/],
    ['a token of another type', { user: { token: 7 } }, /token must be a string/],
    ['a token beside a plugin', { user: { token: SECRET, exec: exec({}) } }, /one of exec/],
    [
      'a plugin of an old version',
      { user: { exec: exec({ apiVersion: 'client.authentication.k8s.io/v1alpha1' }) } },
      /apiVersion/,
    ],
    ['a plugin that must ask', { user: { exec: exec({ interactiveMode: 'Always' }) } }, /interactiveMode/],
    ['a plugin without a command', { user: { exec: exec({ command: '' }) } }, /command is missing/],
    ['a cluster that is not there', { context: { cluster: 'other' } }, /cluster other/],
    ['a user who is not there', { context: { user: 'other' } }, /user other/],
  ])('with %s is refused, without its secrets', (_name, parts, message) => {
    let said = '';
    try {
      read(parts);
    } catch (error) {
      said = error instanceof Error ? error.message : '';
      expect(error).toMatchObject({ code: 'ERR_KUBERNETES_CREDENTIALS' });
    }
    expect(said).toMatch(message);
    expect(said).not.toContain(SECRET);
  });

  test.each([
    ['not YAML', `users: [{ name: u, user: { token: "${SECRET}" }`],
    ['a closing bracket too many', `kind: Config\n} ${SECRET}`],
    ['a block with stray text', `kind: | ${SECRET}\n  x`],
    ['twice one key', `users: []\nusers: [{ name: u, user: { token: ${SECRET} } }]`],
    ['an alias', `users: &a [{ name: u, user: { token: ${SECRET} } }]\nx: *a`],
    ['stray text', `kind: Config\n  ${SECRET}: 1\n:`],
    ['of another kind', `kind: Secret\ntoken: ${SECRET}`],
    ['of another version', `apiVersion: v2\ntoken: ${SECRET}`],
    ['several documents', `kind: Config\n---\ntoken: ${SECRET}`],
  ])('that is %s is refused, without its secrets', (_name, text) => {
    expect(() => fromKubeconfig({ path: write('config', text) })).toThrow(
      expect.objectContaining({ code: 'ERR_KUBERNETES_CREDENTIALS', message: expect.not.stringContaining(SECRET) }),
    );
  });

  test('that is missing is named', () => {
    expect(() => fromKubeconfig({ path: path('nowhere') })).toThrow(/nowhere does not exist/);
    expect(() => fromKubeconfig({ environment: {}, home: directory })).toThrow(
      /there is no kubeconfig: .*\.kube\/config/,
    );
  });

  test('without the context that is asked for says which there are', () => {
    const file = write('config', config());
    expect(() => fromKubeconfig({ path: file, context: 'prod' })).toThrow(/no context prod; it has here/);
  });
});

describe('several files', () => {
  test('are one configuration, in which the first word counts', async () => {
    const one = { clusters: [{ name: 'c', cluster: { server: 'https://first.example' } }], 'current-context': 'b' };
    const two = {
      'current-context': 'nowhere',
      clusters: [{ name: 'c', cluster: { server: 'https://second.example' } }],
      users: [{ name: 'u', user: { token: SECRET } }],
      contexts: [{ name: 'b', context: { cluster: 'c', user: 'u' } }],
    };
    const list = [path('missing'), write('1', JSON.stringify(one)), write('2', JSON.stringify(two))].join(':');
    const connection = fromKubeconfig({ environment: { KUBECONFIG: list } });
    expect(connection.server).toBe('https://first.example');
    expect((await connection.access(now)).token).toBe(SECRET);
  });
});

function exec(settings: object): object {
  return { apiVersion: 'client.authentication.k8s.io/v1', command: 'true', ...settings };
}
