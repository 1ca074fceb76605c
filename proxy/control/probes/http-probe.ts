import type { IncomingMessage, RequestOptions } from 'node:http';
import https from 'node:https';
import type { HttpProbe } from '../../config-pod.ts';
import { failed, hostOf, type Outcome } from './outcome.ts';

// Not by an import statement, which would load undici (see http-server.ts).
const http = process.getBuiltinModule('node:http');

/** As the kubelet: so much of a body is read, and the tenth redirect is one too many (pkg/probe/http, Go's net/http). */
const MAX_BODY_BYTES = 10 * 1024;
const MAX_REQUESTS = 10;
const MAX_HEADER_BYTES = 64 * 1024;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Of the connection, not of the probe: Go's client sends its own, whatever is configured. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'trailer',
]);

/**
 * Asks by GET as the kubelet would: redirects on the same host are followed; one to another host is success.
 * @param userAgent of whoever asks us. @throws what the connection fails of, and the reason of `signal`
 */
export async function probeHttp(
  probe: HttpProbe,
  address: string,
  userAgent: string | undefined,
  signal: AbortSignal,
): Promise<Outcome> {
  const scheme = probe.scheme === 'HTTPS' ? 'https' : 'http';
  let url = new URL(`${scheme}://${hostOf(address)}:${probe.port}${probe.path}`);
  const headers = headersOf(probe, userAgent);
  for (let requests = 1; ; requests += 1) {
    const { status, location } = await get(url, headers, signal);
    const target = REDIRECTS.has(status) && location !== undefined && location !== '' ? location : null;
    if (target === null) return judge(status);
    const next = URL.parse(target, url);
    if (next === null) return failed(`status ${status} with a Location that is no URL`);
    if (next.hostname !== url.hostname) return judge(status);
    if (next.protocol !== 'http:' && next.protocol !== 'https:')
      return failed('a redirect to something else than HTTP');
    if (requests === MAX_REQUESTS) return failed(`stopped after ${MAX_REQUESTS} redirects`);
    // The Host header was meant for the place that was configured.
    if (URL.parse(target) !== null) delete headers.host;
    url = next;
  }
}

const judge = (status: number): Outcome => ({ ok: status >= 200 && status < 400, why: `status ${status}` });

function headersOf({ headers, host }: HttpProbe, userAgent: string | undefined): Record<string, string | string[]> {
  const fields: Record<string, string | string[]> = { accept: '*/*' };
  if (userAgent !== undefined) fields['user-agent'] = userAgent;
  if (host !== null) fields.host = host;
  const configured = new Map<string, string[]>();
  for (const { name, value } of headers) {
    const key = name.toLowerCase();
    if (key === 'host') fields.host = value;
    else if (!OWN_HEADERS.has(key)) configured.set(key, [...(configured.get(key) ?? []), value]);
  }
  for (const [key, values] of configured) fields[key] = key === 'user-agent' ? (values[0] ?? '') : values;
  // So written, it says that none is to be sent.
  if (configured.get('accept')?.[0] === '') delete fields.accept;
  return fields;
}

function get(
  url: URL,
  headers: Record<string, string | string[]>,
  signal: AbortSignal,
): Promise<{ readonly status: number; readonly location: string | undefined }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; location: string | undefined }>();
  const options: RequestOptions & https.RequestOptions = {
    agent: false,
    headers: { ...headers },
    signal,
    maxHeaderSize: MAX_HEADER_BYTES,
    // The kubelet does not verify either: that the application answers is all that is asked. Without `ca` the public roots are loaded, 8 MB for good.
    ...(url.protocol === 'https:' ? { rejectUnauthorized: false, ca: [], servername: '' } : {}),
  };
  const send = url.protocol === 'https:' ? https.request : http.request;
  const call = send(url, options, (response) => {
    const head = { status: response.statusCode ?? 0, location: response.headers.location };
    read(response, () => resolve(head), reject);
  });
  call.on('error', reject);
  call.end();
  return promise;
}

/** To its end, or as far as it is read. */
function read(response: IncomingMessage, done: () => void, broken: (error: Error) => void): void {
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) return;
    done();
    response.destroy();
  });
  response.on('end', done);
  response.on('error', broken);
  response.on('close', () => broken(new Error('the answer was cut short')));
}
