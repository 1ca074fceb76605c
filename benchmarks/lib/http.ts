import { get } from 'node:http';
import type { Endpoint } from './contender.ts';

export interface Answer {
  readonly status: number;
  readonly body: string;
}

const TIMEOUT_MS = 5_000;
const BODY_LIMIT = 8 * 1024 * 1024;

/** A GET on a connection of its own. Rejects on any failure, on a body over 8 MiB, and after 5 seconds. */
export function fetchOnce(endpoint: Endpoint, path: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = get(
      { host: endpoint.address, port: endpoint.port, path, agent: false, signal: AbortSignal.timeout(TIMEOUT_MS) },
      (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          body += chunk;
          if (body.length > BODY_LIMIT) request.destroy(new Error(`the answer to ${path} is over ${BODY_LIMIT} bytes`));
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
        response.on('error', reject);
      },
    );
    request.on('error', reject);
  });
}

/** Whether the endpoint answers 200 now. */
export async function answersOk(endpoint: Endpoint, path: string): Promise<boolean> {
  return await answers(endpoint, path, 200);
}

/** Whether the endpoint answers with this status now. */
export async function answers(endpoint: Endpoint, path: string, status: number): Promise<boolean> {
  try {
    return (await fetchOnce(endpoint, path)).status === status;
  } catch {
    return false;
  }
}
