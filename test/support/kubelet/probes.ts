import { get as httpGet } from 'node:http';
import { get as httpsGet } from 'node:https';
import { connect } from 'node:net';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at, objectsAt, textAt } from '../kubernetes/objects.ts';

export interface ProbeTarget {
  readonly address: string;
  readonly container: JsonObject;
  readonly exec: (argv: readonly string[], timeoutMs: number) => Promise<boolean>;
}

/** One attempt, from the node. Null: it succeeded; else why it did not. */
export async function attempt(probe: JsonValue, target: ProbeTarget): Promise<string | null> {
  const timeoutMs = Number(at(probe, 'timeoutSeconds') ?? 1) * 1000;
  const http = at(probe, 'httpGet');
  if (http !== undefined) return await askHttp(http, target, timeoutMs);
  const tcp = at(probe, 'tcpSocket');
  if (tcp !== undefined) return await askTcp(target.address, portOf(at(tcp, 'port'), target.container), timeoutMs);
  const words = at(probe, 'exec', 'command');
  if (!Array.isArray(words)) return 'this kubelet knows httpGet, tcpSocket and exec alone';
  return (await target.exec(words.map(String), timeoutMs)) ? null : 'the command failed';
}

function portOf(port: JsonValue | undefined, container: JsonObject): number {
  if (typeof port === 'number') return port;
  const named = objectsAt(container, 'ports').find((one) => textAt(one, 'name') === port);
  return Number(at(named, 'containerPort') ?? port);
}

function askHttp(http: JsonValue, { address, container }: ProbeTarget, timeoutMs: number): Promise<string | null> {
  const headers = Object.fromEntries(
    objectsAt(http, 'httpHeaders').map((header) => [textAt(header, 'name'), textAt(header, 'value')]),
  );
  const options = {
    host: textAt(http, 'host') || address,
    port: portOf(at(http, 'port'), container),
    path: textAt(http, 'path') || '/',
    headers: { 'user-agent': 'kube-probe/1.32', ...headers },
    agent: false as const,
    signal: AbortSignal.timeout(timeoutMs),
  };
  return new Promise((resolve) => {
    const secure = textAt(http, 'scheme') === 'HTTPS';
    const request = secure ? httpsGet({ ...options, rejectUnauthorized: false }) : httpGet(options);
    request.on('error', (error) => resolve(error.message));
    request.on('response', (response) => {
      response.resume();
      const status = response.statusCode ?? 0;
      resolve(status >= 200 && status < 400 ? null : `status ${status}`);
    });
  });
}

function askTcp(host: string, port: number, timeoutMs: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const settle = (answer: string | null): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(timeoutMs, () => settle('timeout'));
    socket.on('connect', () => settle(null));
    socket.on('error', (error) => settle(error.message));
  });
}
