import { duration } from '../../mesh/config/decoders.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';

/** Where one of the sidecar's ports is, by an option of the command line. @throws PosternError ERR_USAGE */
export function sidecarUrl(option: string, at: string, path: string): URL {
  const url = URL.parse(`http://${at}${path}`);
  if (/:[0-9]{1,5}$/.test(at) && `${url?.hostname}:${url?.port || '80'}` === at.toLowerCase() && url !== null)
    return url;
  throw usageError(`${option} ${at} is not an address and a port, such as 127.0.0.1:15000`);
}

/** Milliseconds. @throws PosternError ERR_USAGE */
export function readTimeout(text: string): number {
  const decoder = duration(0, 3_600_000);
  const ms = decoder.read(text);
  if (ms !== null) return ms;
  throw usageError(`--timeout must be ${decoder.expects}, not ${text}`);
}

export const usageError = (message: string): PosternError =>
  new PosternError('ERR_USAGE', message, { exitCode: EXIT.usage });

/** One request to a sidecar on this machine. @throws what the connection fails of: `reasonOf` says it */
export async function askSidecar(
  method: 'GET' | 'POST',
  url: URL,
  timeoutMs: number,
): Promise<{ readonly status: number; readonly body: string }> {
  const { request } = await import('undici');
  const answer = await request(url, { method, signal: AbortSignal.timeout(timeoutMs) });
  return { status: answer.statusCode, body: await answer.body.text() };
}

export const reasonOf = (error: unknown): string =>
  error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : messageOf(error);
