import { connect } from 'node:net';

/** What came of dialling: the line that was read, or why none was. */
export type DialResult =
  | { readonly kind: 'answer'; readonly line: string }
  /** `code` is the errno's name, or TIMEOUT. */
  | { readonly kind: 'failed'; readonly code: string };

/** More than a nonce; whoever answers instead of the probe's listener may send anything. */
const MAX_ANSWER_BYTES = 256;

/** Connects and reads one line. Never rejects. */
export function dial(address: string, port: number, timeoutMs: number): Promise<DialResult> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    let answer = '';
    const end = (result: DialResult): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => end({ kind: 'failed', code: 'TIMEOUT' }), timeoutMs);
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      answer += chunk;
      if (answer.includes('\n') || answer.length > MAX_ANSWER_BYTES) {
        end({ kind: 'answer', line: answer.split('\n', 1)[0] ?? '' });
      }
    });
    socket.on('error', (error) => end({ kind: 'failed', code: 'code' in error ? String(error.code) : 'ERROR' }));
    socket.on('close', () => end({ kind: 'answer', line: answer }));
  });
}
