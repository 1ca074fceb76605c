import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { REREAD_MS } from '../../../kubernetes/api/credential-file.ts';
import { ExecPlugin, readExecCredential } from '../../../kubernetes/api/exec-plugin.ts';
import { inCluster, isInCluster } from '../../../kubernetes/api/in-cluster.ts';

const now = new AbortController().signal;
const ENVIRONMENT = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };
const V1 = 'client.authentication.k8s.io/v1';

let directory: string;
const path = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'postern-credentials-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('in a pod', () => {
  let time = 0;
  const connect = (environment: object = ENVIRONMENT) =>
    inCluster({ environment: { ...environment }, directory, now: () => time });

  beforeEach(() => {
    time = 0;
    writeFileSync(path('token'), 'one\n');
    writeFileSync(path('ca.crt'), 'CA\n');
    writeFileSync(path('namespace'), 'postern-system');
  });

  test('server, namespace, CA and token are those of the service account', async () => {
    const connection = connect();
    expect(connection).toMatchObject({ server: 'https://10.96.0.1:443', namespace: 'postern-system' });
    expect(await connection.access(now)).toEqual({ tls: { ca: 'CA', serverName: null, client: null }, token: 'one' });
    expect(connect({ ...ENVIRONMENT, KUBERNETES_SERVICE_HOST: 'fd00::1' }).server).toBe('https://[fd00::1]:443');
  });

  test('a new token is read within a minute', async () => {
    const connection = connect();
    writeFileSync(path('token'), 'two');
    time = REREAD_MS - 1;
    expect((await connection.access(now)).token).toBe('one');
    time = REREAD_MS;
    expect((await connection.access(now)).token).toBe('two');
  });

  test('a new token is read at once where the old one was refused', async () => {
    const connection = connect();
    writeFileSync(path('token'), 'two');
    connection.refused(await connection.access(now));
    expect((await connection.access(now)).token).toBe('two');
  });

  test('the last token goes on where the file cannot be read for a while', async () => {
    const connection = connect();
    rmSync(path('token'));
    time = REREAD_MS;
    expect((await connection.access(now)).token).toBe('one');
  });

  test('a new CA makes new connections, the same one does not', async () => {
    const connection = connect();
    const { tls } = await connection.access(now);
    time = REREAD_MS;
    expect((await connection.access(now)).tls).toBe(tls);
    writeFileSync(path('ca.crt'), 'CB');
    time = 2 * REREAD_MS;
    expect((await connection.access(now)).tls).toEqual({ ...tls, ca: 'CB' });
  });

  test.each([
    ['no environment', {}, 'one', /not a pod/],
    ['a port that is none', { ...ENVIRONMENT, KUBERNETES_SERVICE_PORT: 'tcp://1' }, 'one', /not a pod/],
    ['no token', ENVIRONMENT, null, /token cannot be read/],
    ['an empty token', ENVIRONMENT, '', /not a token/],
    ['a token of two lines', ENVIRONMENT, 'sec\r\nret', /not a token/],
  ])('with %s it says so', (_name, environment, token, message) => {
    if (token === null) rmSync(path('token'));
    else writeFileSync(path('token'), token);
    expect(() => connect(environment)).toThrow(message);
  });

  test('is told from elsewhere by the environment', () => {
    expect(isInCluster(ENVIRONMENT)).toBe(true);
    expect(isInCluster({})).toBe(false);
  });
});

describe('a credential plugin', () => {
  const printed = (status: object): string => JSON.stringify({ apiVersion: V1, kind: 'ExecCredential', status });
  /** Runs `script` in a shell, which counts its runs. */
  const plugin = (script: string, options: { deadlineMs?: number; rerunMs?: number } = {}) =>
    new ExecPlugin(
      {
        apiVersion: V1,
        command: 'sh',
        args: ['-c', `echo run >>'${path('runs')}'; ${script}`],
        environment: { WHO: 'me' },
        cluster: { server: 'https://k8s.example' },
      },
      options,
    );
  const runs = (): number => readFileSync(path('runs'), 'utf8').trim().split('\n').length;

  test('is told what it is for, and gives a token', async () => {
    const script = `printf '%s' "$KUBERNETES_EXEC_INFO" >'${path('info')}'; echo '${printed({ token: 'T' })}' | sed "s/T/$WHO/"`;
    expect(await plugin(script).credential()).toEqual({ token: 'me', client: null, expiresAt: null });
    expect(JSON.parse(readFileSync(path('info'), 'utf8'))).toEqual({
      apiVersion: V1,
      kind: 'ExecCredential',
      spec: { interactive: false, cluster: { server: 'https://k8s.example' } },
    });
  });

  test('runs once for all who ask, until its answer expires', async () => {
    const later = new Date(Date.now() + 3_600_000).toISOString();
    const lasting = plugin(`echo '${printed({ token: 'a', expirationTimestamp: later })}'`);
    await Promise.all([lasting.credential(), lasting.credential()]);
    await lasting.credential();
    expect(runs()).toBe(1);
    const soon = new Date(Date.now() + 1_000).toISOString();
    const short = plugin(`echo '${printed({ token: 'a', expirationTimestamp: soon })}'`);
    await short.credential();
    await short.credential();
    expect(runs()).toBe(3);
  });

  test('is not run again and again because the server refuses what it gives', async () => {
    const one = plugin(`echo '${printed({ token: 'a' })}'`);
    for (let i = 0; i < 5; i++) one.refused(await one.credential());
    expect(runs()).toBe(1);
  });

  test('is run again where the server refuses what it gave a while ago, and not for what is replaced already', async () => {
    const one = plugin(`echo '${printed({ token: 'a' })}'`, { rerunMs: -1 });
    const first = await one.credential();
    one.refused(first);
    const second = await one.credential();
    one.refused(first);
    expect(await one.credential()).toBe(second);
    expect(runs()).toBe(2);
  });

  test('that fails, hangs, floods or is missing is named, without what it printed', async () => {
    const secret = 'sec-ret';
    await expect(plugin(`echo ${secret}; exit 3`).credential()).rejects.toThrow(
      /^the credential plugin sh ended with exit code 3/,
    );
    await expect(plugin('exec sleep 60', { deadlineMs: 100 }).credential()).rejects.toThrow(
      /did not finish within 100 ms/,
    );
    await expect(plugin('exec yes').credential()).rejects.toThrow(/printed more than/);
    const missing = { apiVersion: V1, command: 'no-such-plugin', args: [], environment: {}, cluster: null };
    await expect(new ExecPlugin(missing).credential()).rejects.toThrow(/no-such-plugin cannot be run/);
  });

  const fail = (message: string): never => {
    throw new Error(message);
  };
  test.each([
    ['nothing', ''],
    ['no JSON', 'sec-ret'],
    [
      'another version',
      JSON.stringify({ apiVersion: `${V1}beta1`, kind: 'ExecCredential', status: { token: 'sec-ret' } }),
    ],
    ['neither token nor certificate', printed({})],
    ['a token of another type', printed({ token: { v: 'sec-ret' } })],
    ['a token that would end a header', printed({ token: 'sec-ret\r\nx: y' })],
    ['a certificate without its key', printed({ clientCertificateData: 'sec-ret' })],
    ['an expiry that is no time', printed({ token: 'sec-ret', expirationTimestamp: 'soon' })],
  ])('that prints %s is refused, without what it printed', (_name, output) => {
    expect(() => readExecCredential(output, V1, fail)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('sec-ret') }),
    );
  });

  test('may give a certificate', () => {
    const status = { clientCertificateData: 'C', clientKeyData: 'K', expirationTimestamp: '2030-01-01T00:00:00Z' };
    expect(readExecCredential(printed(status), V1, fail)).toEqual({
      token: null,
      client: { certificate: 'C', key: 'K' },
      expiresAt: Date.UTC(2030, 0, 1),
    });
  });
});
