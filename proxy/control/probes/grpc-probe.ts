import type { ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import type { GrpcProbe } from '../../config-pod.ts';
import { decodeStatus, encodeCheck } from './health-message.ts';
import { failed, hostOf, type Outcome } from './outcome.ts';

const MAX_ANSWER_BYTES = 4096;

/**
 * gRPC's health check over plaintext HTTP/2. @param userAgent of whoever asks us.
 * @throws what the connection fails of, and the reason of `signal`
 */
export async function probeGrpc(
  { port, service }: GrpcProbe,
  address: string,
  userAgent: string | undefined,
  signal: AbortSignal,
): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  // Loaded only where there is such a probe: no other part of a sidecar's control thread speaks HTTP/2.
  const http2 = process.getBuiltinModule('node:http2');
  const session = http2.connect(`http://${hostOf(address)}:${port}`, { settings: { enablePush: false } });
  const give = (): void => reject(signal.reason);
  signal.addEventListener('abort', give);
  session.on('error', reject);
  session.on('close', () => reject(new Error('the connection was closed')));
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...(userAgent === undefined ? {} : { 'user-agent': userAgent }),
    });
    receive(stream, resolve, reject);
    stream.end(encodeCheck(service));
    return await promise;
  } finally {
    signal.removeEventListener('abort', give);
    session.destroy();
  }
}

function receive(stream: ClientHttp2Stream, done: (outcome: Outcome) => void, broken: (error: Error) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let status = '';
  let grpcStatus: string | undefined;
  const note = (headers: IncomingHttpHeaders): void => {
    const code = headers['grpc-status'];
    if (typeof code === 'string') grpcStatus = code;
  };
  stream.on('response', (headers) => {
    status = String(headers[':status']);
    note(headers);
  });
  stream.on('trailers', note);
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) done(failed('an answer that is too long'));
    else chunks.push(chunk);
  });
  stream.on('error', broken);
  stream.on('end', () => {
    if (status !== '200') done(failed(`HTTP status ${status || 'missing'}`));
    else if (grpcStatus !== '0')
      done(failed(`gRPC status ${/^[0-9]{1,3}$/.test(grpcStatus ?? '') ? grpcStatus : 'missing'}`));
    else {
      const serving = decodeStatus(Buffer.concat(chunks));
      done({ ok: serving === 'SERVING', why: serving ?? 'an answer that is no health status' });
    }
  });
}
