import { request } from 'node:https';
import { isIP } from 'node:net';
import { messageOf } from '../../../mesh/errors.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at, textAt } from './objects.ts';

/** `<namespace>/<service>` → `host:port` at which the test runs it. */
export type ServiceTargets = Map<string, string>;

const MAX_RESPONSE = 4 * 1024 * 1024;

interface Target {
  /** As messages and the Host header have it. */
  readonly url: URL;
  readonly host: string;
  readonly port: number;
}

/**
 * Posts a review to a webhook, over TLS that its `caBundle` vouches for, within its `timeoutSeconds`.
 * @throws Error in the server's words, where there is no good answer.
 */
export async function callWebhook(
  webhook: JsonObject,
  review: JsonObject,
  services: ServiceTargets,
): Promise<JsonValue> {
  const target = targetOf(webhook, services);
  const seconds = Number(at(webhook, 'timeoutSeconds') ?? 10);
  target.url.searchParams.set('timeout', `${seconds}s`);
  const bundle = textAt(webhook, 'clientConfig', 'caBundle');
  const ca = bundle === '' ? undefined : Buffer.from(bundle, 'base64').toString();
  try {
    const { status, body } = await post(target, ca, JSON.stringify(review), seconds * 1000);
    if (status !== 200)
      throw new Error(
        `an error on the server ("${body.slice(0, 200)}") has prevented the request from succeeding (status ${status})`,
      );
    return JSON.parse(body) as JsonValue;
  } catch (thrown) {
    throw new Error(`failed to call webhook: Post "${target.url.href}": ${messageOf(thrown)}`, { cause: thrown });
  }
}

function targetOf(webhook: JsonObject, services: ServiceTargets): Target {
  const text = textAt(webhook, 'clientConfig', 'url');
  if (text !== '') {
    const url = new URL(text);
    if (url.protocol !== 'https:') throw new Error('webhook URLs must be https');
    return { url, host: url.hostname, port: Number(url.port === '' ? 443 : url.port) };
  }
  const service = at(webhook, 'clientConfig', 'service');
  const [namespace, name] = [textAt(service, 'namespace'), textAt(service, 'name')];
  const url = new URL(
    `https://${name}.${namespace}.svc:${Number(at(service, 'port') ?? 443)}${textAt(service, 'path') || '/'}`,
  );
  const [, host = '', port = ''] = /^(.+):(\d+)$/.exec(services.get(`${namespace}/${name}`) ?? '') ?? [];
  if (port === '') throw new Error(`failed to call webhook: Post "${url.href}": service "${name}" not found`);
  return { url, host, port: Number(port) };
}

/** A new connection for each call: a webhook's certificate may have changed. */
function post(
  target: Target,
  ca: string | undefined,
  body: string,
  timeoutMs: number,
): Promise<{ readonly status: number; readonly body: string }> {
  const { url, host, port } = target;
  return new Promise((resolve, reject) => {
    const outgoing = request({
      host,
      port,
      method: 'POST',
      path: `${url.pathname}${url.search}`,
      ...(isIP(url.hostname) === 0 ? { servername: url.hostname } : {}),
      agent: false,
      ...(ca === undefined ? {} : { ca }),
      headers: {
        host: url.host,
        accept: 'application/json',
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
      },
    });
    const timer = setTimeout(() => outgoing.destroy(new Error('context deadline exceeded')), timeoutMs);
    const settle = (then: () => void): void => {
      clearTimeout(timer);
      then();
    };
    outgoing.on('error', (error) => settle(() => reject(error)));
    outgoing.on('response', (incoming) => {
      const chunks: Buffer[] = [];
      let size = 0;
      incoming.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_RESPONSE) outgoing.destroy(new Error('the response is too large'));
        chunks.push(chunk);
      });
      incoming.on('error', (error) => settle(() => reject(error)));
      incoming.on('end', () =>
        settle(() => resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString() })),
      );
    });
    outgoing.end(body);
  });
}
