import { lookup as resolveName } from 'node:dns/promises';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import { CollectedBytes } from '../collected-bytes.ts';
import { type AddressGuard, literalAddress } from './address-guard.ts';

/** Every address of a host name. @throws what the resolver throws */
export type Resolve = (hostname: string) => Promise<readonly string[]>;

export interface FetchOptions {
  readonly guard: AddressGuard;
  /** For all of it: names, connections, redirects and body. */
  readonly timeoutMs: number;
  readonly maxBytes: number;
  /** Gives up at once. */
  readonly signal?: AbortSignal;
  readonly resolve?: Resolve;
}

const MAX_REDIRECTS = 3;
const MAX_URI = 2048 + 64;

/**
 * Fetches a JSON document by GET. A name is resolved here, and the connection goes to the very address that was looked at: a name that points
 * elsewhere a moment later (DNS rebinding) changes nothing. Redirects are followed a few times, each looked at in the same way, and never from
 * https to http. No credentials, cookies or proxies.
 *
 * @throws PosternError ERR_JWKS_FETCH that says what to look at; never with anything of the answer's body.
 */
export async function fetchDocument(uri: string, options: FetchOptions): Promise<string> {
  const timeout = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal]);
  let url = acceptable(uri, null);
  for (let redirects = 0; ; redirects++) {
    const response = await get(url, options, signal).catch((error: unknown) => {
      if (signal.aborted) throw failure(url, `gave no answer within ${options.timeoutMs} ms`);
      throw error instanceof PosternError ? error : failure(url, messageOf(error), error);
    });
    try {
      const { statusCode: status = 0, headers } = response;
      if (status === 200) return await readBody(response, url, options.maxBytes, signal);
      const target = REDIRECTS.includes(status) ? headers.location : undefined;
      if (target === undefined) throw failure(url, `answered with status ${status}; 200 is wanted`);
      if (redirects === MAX_REDIRECTS) throw failure(url, `was redirected more than ${MAX_REDIRECTS} times`);
      url = acceptable(target, url);
    } finally {
      response.destroy();
    }
  }
}

const REDIRECTS = [301, 302, 303, 307, 308];

/** @param from where a redirect, or a document, has led here from; null for a manifest's own. */
export function acceptable(uri: string, from: URL | null): URL {
  const url = URL.canParse(uri, from?.href) ? new URL(uri, from?.href) : null;
  const what = from === null ? `the URI ${shown(uri)}` : `the URI ${shown(uri)} that ${from.host} leads to`;
  const refuse = (why: string): never => {
    throw new PosternError('ERR_JWKS_FETCH', `${what} ${why}`);
  };
  if (url === null || uri.length > MAX_URI) return refuse('is not a URL of bounded length');
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return refuse('is neither http nor https');
  if (from?.protocol === 'https:' && url.protocol === 'http:') return refuse('would leave https for http');
  if (url.username !== '' || url.password !== '') return refuse('has a user name or password, which is not sent');
  return url;
}

async function get(url: URL, options: FetchOptions, signal: AbortSignal): Promise<IncomingMessage> {
  const address = await addressOf(url, options, signal);
  const pinned: LookupFunction = (_hostname, { all }, callback) => {
    const family = isIP(address);
    if (all === true) callback(null, [{ address, family }]);
    else callback(null, address, family);
  };
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const { request } = url.protocol === 'https:' ? https : http;
  // A connection of its own: none is shared that was made for another address.
  const asked = request(url, {
    lookup: pinned,
    agent: false,
    rejectUnauthorized: true,
    signal,
    headers: { accept: 'application/json' },
  });
  asked.once('response', resolve);
  // Not once: it may fail again, of what nobody waits for, after it was answered.
  asked.on('error', reject);
  asked.end();
  return await promise;
}

/** The first that may be connected to of the addresses of a host. */
async function addressOf(url: URL, options: FetchOptions, signal: AbortSignal): Promise<string> {
  const literal = literalAddress(url.hostname);
  const resolve = options.resolve ?? systemResolve;
  const addresses = literal === null ? await aborted(signal, resolve(url.hostname)) : [literal];
  const refusals = addresses.map((address) => options.guard.refusal(address));
  const open = addresses.find((_address, index) => refusals[index] === null);
  if (open !== undefined) return open;
  if (addresses.length === 0) throw failure(url, 'has no address: look at its DNS records');
  throw failure(url, `is not fetched: its address ${addresses[0]} ${refusals[0]}`);
}

const systemResolve: Resolve = async (hostname) =>
  (await resolveName(hostname, { all: true })).map(({ address }) => address);

/** A resolver cannot be stopped, only not waited for. */
async function aborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = (): void => reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

async function readBody(response: IncomingMessage, url: URL, maxBytes: number, signal: AbortSignal): Promise<string> {
  const collected = new CollectedBytes(maxBytes);
  try {
    for await (const chunk of response) {
      if (!collected.add(Buffer.from(chunk))) throw failure(url, `answers with more than ${maxBytes} bytes`);
    }
  } catch (error) {
    if (signal.aborted) throw failure(url, 'did not finish its answer in time');
    throw error instanceof PosternError ? error : failure(url, messageOf(error), error);
  }
  return collected.bytes.toString('utf8');
}

/** Without its query: secrets stand there at times. */
function failure(url: URL, what: string, cause?: unknown): PosternError {
  return new PosternError(
    'ERR_JWKS_FETCH',
    `${url.origin}${url.pathname} ${what}`,
    cause === undefined ? {} : { cause },
  );
}

function shown(uri: string): string {
  const [plain = ''] = uri.split('?');
  // What stands before an @ may be a password.
  return JSON.stringify(plain.slice(0, 200).replace(/\/\/[^/@]*@/, '//…@'));
}
