import fs from 'node:fs';
import http, { type IncomingMessage } from 'node:http';
import { dirname, join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { readFileBounded, systemCode } from '../../mesh/atomic-file.ts';
import { EXIT, type ExitCode, messageOf, PosternError } from '../../mesh/errors.ts';
import { DEFAULT_CONFIG, DEFAULTS } from '../config.ts';
import { ADMIN_SOCKET, MAX_SOCKET_PATH_BYTES, type RotationLine } from './administration.ts';
import { objectOf } from './json.ts';

/** Where a command finds the control plane's data directory. */
export interface DataDirOptions {
  readonly config?: string | undefined;
  readonly dataDir?: string | undefined;
}

const MAX_CONFIG_BYTES = 1024 * 1024;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
const ANSWER_TIMEOUT_MS = 15_000;
/** Between two lines of a rotation's progress; the control plane waits for at most a minute at each step. */
const PROGRESS_TIMEOUT_MS = 180_000;

/**
 * The data directory named directly, or the `dataDir` of a control plane's configuration (relative to that file), by default of ./control-plane.yaml.
 *
 * @throws PosternError ERR_USAGE, ERR_CONFIG
 */
export function locateDataDir(options: DataDirOptions): string {
  if (options.dataDir !== undefined && options.config !== undefined) {
    throw new PosternError('ERR_USAGE', 'give either --config or --data-dir, not both', { exitCode: EXIT.usage });
  }
  if (options.dataDir !== undefined) return resolve(options.dataDir);
  const file = options.config ?? DEFAULT_CONFIG;
  if (options.config === undefined && !fs.existsSync(file)) {
    const message = `which control plane? There is no ${DEFAULT_CONFIG} in this directory: give --config FILE or --data-dir DIR`;
    throw new PosternError('ERR_USAGE', message, { exitCode: EXIT.usage });
  }
  const document = parseDocument(readFileBounded(file, MAX_CONFIG_BYTES).toString('utf8'));
  const [error] = document.errors;
  if (error !== undefined) throw badConfig(file, error.message);
  const dataDir: unknown = document.get('dataDir') ?? DEFAULTS.dataDir;
  if (typeof dataDir !== 'string' || dataDir === '') throw badConfig(file, 'dataDir must be a path');
  return resolve(dirname(file), dataDir);
}

/** Speaks to a running control plane over its admin socket. */
export class AdminClient {
  readonly #path: string;

  constructor(dataDir: string) {
    this.#path = join(dataDir, ADMIN_SOCKET);
  }

  /** @throws PosternError ERR_CONTROL_PLANE_UNAVAILABLE (exit code 69), or whatever the control plane answered. */
  async request(method: string, path: string, body?: unknown): Promise<{ readonly [key: string]: unknown }> {
    const response = await this.#send(method, path, body, ANSWER_TIMEOUT_MS);
    let text = '';
    for await (const chunk of readText(response)) {
      text += chunk;
      if (text.length > MAX_ANSWER_BYTES) throw unintelligible('too long an answer');
    }
    const value = parseObject(text);
    const status = response.statusCode ?? 0;
    if (status < 200 || status > 299) throw errorOf(value);
    return value;
  }

  /** Resolves when the new root issues. @throws PosternError as `request`. */
  async rotate(onProgress: (line: Extract<RotationLine, { type: 'progress' }>) => void): Promise<void> {
    const response = await this.#send('POST', '/ca/rotate', undefined, PROGRESS_TIMEOUT_MS);
    let rest = '';
    for await (const chunk of readText(response)) {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_ANSWER_BYTES) throw unintelligible('too long a line');
      for (const line of lines) {
        const value = parseObject(line);
        if (value.type === 'done') return;
        if (value.type !== 'progress') throw errorOf(value);
        const { step, message } = objectOf(value.progress);
        onProgress({ type: 'progress', progress: { step, message } } as Extract<RotationLine, { type: 'progress' }>);
      }
    }
    throw unavailable('the control plane went away during the rotation; run postern ca show to see how far it got');
  }

  #send(method: string, path: string, body: unknown, timeoutMs: number): Promise<IncomingMessage> {
    if (Buffer.byteLength(this.#path) > MAX_SOCKET_PATH_BYTES) {
      const message = `the path of the admin socket, ${this.#path}, is longer than ${MAX_SOCKET_PATH_BYTES} bytes: no control plane can run there`;
      throw new PosternError('ERR_ADMIN_SOCKET', message, { exitCode: EXIT.config });
    }
    const text = body === undefined ? '' : JSON.stringify(body);
    return new Promise((resolvePromise, reject) => {
      const request = http.request({
        socketPath: this.#path,
        method,
        path,
        agent: false,
        timeout: timeoutMs,
        // Of itself Node does not frame the body of a DELETE.
        headers: { host: 'localhost', 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
      });
      request.once('response', resolvePromise);
      request.once('timeout', () =>
        request.destroy(unavailable(`the control plane at ${this.#path} does not answer within ${timeoutMs / 1000} s`)),
      );
      request.once('error', (error) => reject(this.#connectError(error)));
      request.end(text);
    });
  }

  #connectError(error: Error): PosternError {
    if (error instanceof PosternError) return error;
    const code = systemCode(error);
    if (code === 'EACCES' || code === 'EPERM') {
      const message = `no permission for ${this.#path}: run this as the user that the control plane runs as`;
      return new PosternError('ERR_ADMIN_PERMISSION', message, { cause: error, exitCode: EXIT.noPermission });
    }
    if (code === 'ENOENT' || code === 'ECONNREFUSED') {
      return unavailable(
        `no control plane is running on ${this.#path}: start it with postern control-plane, then try again`,
      );
    }
    return unavailable(`the control plane at ${this.#path} cannot be reached: ${messageOf(error)}`);
  }
}

async function* readText(response: IncomingMessage): AsyncGenerator<string> {
  response.setEncoding('utf8');
  try {
    for await (const chunk of response) yield String(chunk);
  } catch (error) {
    if (error instanceof PosternError) throw error;
    throw unavailable(`the control plane broke off its answer: ${messageOf(error)}`);
  }
}

function parseObject(text: string): { readonly [key: string]: unknown } {
  try {
    const value: unknown = JSON.parse(text);
    return objectOf(value);
  } catch (error) {
    throw unintelligible(messageOf(error));
  }
}

/** The control plane's error, as it was there. */
function errorOf({ error, code, exitCode }: { readonly [key: string]: unknown }): PosternError {
  const known = Object.values(EXIT).find((value): value is ExitCode => value === exitCode);
  return new PosternError(String(code), String(error), { exitCode: known ?? EXIT.failure });
}

const unavailable = (message: string): PosternError =>
  new PosternError('ERR_CONTROL_PLANE_UNAVAILABLE', message, { exitCode: EXIT.unavailable });

const unintelligible = (reason: string): PosternError =>
  new PosternError(
    'ERR_ADMIN_REQUEST',
    `the control plane's answer makes no sense here (${reason}): is it of another version?`,
    {
      exitCode: EXIT.software,
    },
  );

const badConfig = (file: string, reason: string): PosternError =>
  new PosternError('ERR_CONFIG', `${file}: ${reason}`, { exitCode: EXIT.config });
