import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, PosternError } from '../mesh/errors.ts';
import type { Door } from './sites/site.ts';

const TIMEOUT_MS = 5000;
const LARGEST_BODY = 16 * 1024 * 1024;
const POLL_MS = 50;

export interface Answer {
  readonly status: number;
  readonly body: string;
}

export async function fetchFrom(door: Door, path: string): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    const outgoing = request({ ...door, path, timeout: TIMEOUT_MS, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
        if (body.length > LARGEST_BODY) outgoing.destroy(new Error('the answer is too large'));
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.on('error', reject);
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
    outgoing.on('error', reject);
    outgoing.end();
  });
}

/** Waits for a 200. @throws PosternError with what was last heard, where it does not come in time. */
export async function untilReady(name: string, door: Door, path: string, timeoutMs: number): Promise<void> {
  await until(`${name} to be ready`, timeoutMs, async () => {
    const { status, body } = await fetchFrom(door, path);
    return status === 200 ? true : `${status} ${body.trim().slice(0, 300)}`;
  });
}

/**
 * Tries until the attempt gives `true`; a string says what is still missing, and so does an error that it throws.
 *
 * @throws PosternError naming the goal and what was last missing
 */
export async function until(goal: string, timeoutMs: number, attempt: () => Promise<true | string>): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await attempt().catch((error: unknown) => messageOf(error));
    if (found === true) return;
    if (performance.now() > deadline) {
      throw new PosternError('ERR_DEMO_WAIT', `waited ${timeoutMs / 1000} s in vain for ${goal}: ${found}`);
    }
    await sleep(POLL_MS);
  }
}
