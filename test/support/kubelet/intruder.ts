/**
 * What somebody could try who has taken over a pod: runs in its network. Prints one line of JSON for each attempt: `{status, code}`, or `{error}`.
 *
 *   intruder.ts ORIGIN  ← attempts as JSON on the command line, one an argument (Attempt)
 */
import { generateKeyPairSync } from 'node:crypto';
import { request } from 'node:https';
import { createCsr } from '../../../mesh/x509/csr.ts';

export type Attempt =
  /** Asks for a certificate with this token. */
  | { readonly try: 'certificate'; readonly token: string }
  /** Asks for a certificate with the first token, and with it registers as another pod. */
  | { readonly try: 'register'; readonly token: string; readonly name: string; readonly addresses: readonly string[] };

export interface Outcome {
  readonly status: number;
  /** Of the error; empty where it was let in. */
  readonly code: string;
}

interface Shown {
  readonly cert: string;
  readonly key: string;
}

const TIMEOUT_MS = 10_000;
const [origin = '', ...attempts] = process.argv.slice(2);

function post(
  path: string,
  body: object,
  headers: object,
  shown: Shown | null,
): Promise<Outcome & { readonly body: string }> {
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST',
      rejectUnauthorized: false,
      headers: { 'content-type': 'application/json', ...headers },
      agent: false as const,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...shown,
    };
    const sent = request(`${origin}${path}`, options, (response) => {
      const status = response.statusCode ?? 0;
      if (status === 200 && path === '/v1/stream') {
        resolve({ status, code: '', body: '' });
        response.destroy();
        return;
      }
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => {
        const { code = '' } = JSON.parse(text) as { code?: string };
        resolve({ status, code, body: text });
      });
    });
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

function newRequest(): { readonly csr: string; readonly privateKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const csr = createCsr({ privateKey, publicKey, spiffeId: 'spiffe://cluster.local/ns/none/sa/none' });
  return { csr, privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
}

async function certificate(token: string): Promise<Outcome & { readonly shown: Shown | null }> {
  const { csr, privateKey } = newRequest();
  const headers = { authorization: `Bearer ${token}` };
  const { status, code, body } = await post('/v1/certificates', { csr }, headers, null);
  if (status !== 200) return { status, code, shown: null };
  const { chain } = JSON.parse(body) as { chain: string };
  return { status, code, shown: { cert: chain, key: privateKey } };
}

async function register({ token, name, addresses }: Extract<Attempt, { try: 'register' }>): Promise<Outcome> {
  const { status, code, shown } = await certificate(token);
  if (shown === null) return { status, code };
  const [, namespace, serviceAccount] = identityIn(token);
  const workload = { name, namespace, serviceAccount, labels: {}, addresses, tunnel: null, ports: {} };
  const answer = await post('/v1/stream', { workload, proxyVersion: '0', resume: null }, {}, shown);
  return { status: answer.status, code: answer.code };
}

function identityIn(token: string): readonly string[] {
  const { sub } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { sub: string };
  return sub.split(':').slice(1);
}

for (const text of attempts) {
  const attempt: Attempt = JSON.parse(text);
  try {
    const { status, code } = attempt.try === 'certificate' ? await certificate(attempt.token) : await register(attempt);
    process.stdout.write(`${JSON.stringify({ status, code })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ status: 0, code: String(error) })}\n`);
  }
}
