import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';

export interface ToolResult {
  /** Exit status; 128 + n where signal n ended it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What interception needs of the machine it runs on; tests put another in its place. */
export interface Machine {
  /** Absolute path of a program; null where there is none. */
  locate(program: string): string | null;
  /** Runs a program to its end without a shell. Rejects where it cannot be started or outlives its deadline. */
  run(argv: readonly [string, ...string[]], stdin?: string): Promise<ToolResult>;
  /** Text of a small file such as those of proc(5); null where it cannot be read. */
  read(path: string): string | null;
}

/** Long enough for the xtables lock on a busy node, short enough that an init container does not hang unnoticed. */
const DEADLINE_MS = 15_000;
/** iptables-save on a Kubernetes node prints some megabytes. */
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
/** Where a system keeps its network tools; the PATH of a service or of a non-root user often lacks them. */
const SYSTEM_PATH = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

function locate(program: string): string | null {
  const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder.startsWith('/'));
  for (const folder of [...path, ...SYSTEM_PATH]) {
    const candidate = join(folder, program);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

function run(argv: readonly [string, ...string[]], stdin = ''): Promise<ToolResult> {
  const [program, ...args] = argv;
  // Messages are matched in English; the lock file's place is a setting of containers with a read-only root.
  const lock = process.env.XTABLES_LOCKFILE;
  const env = {
    PATH: SYSTEM_PATH.join(delimiter),
    LC_ALL: 'C',
    ...(lock === undefined ? {} : { XTABLES_LOCKFILE: lock }),
  };
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'pipe', env });
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let bytes = 0;
    let failure: string | null = null;
    const stop = (reason: string): void => {
      failure ??= reason;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => stop(`did not end within ${DEADLINE_MS / 1000} s`), DEADLINE_MS);
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_OUTPUT_BYTES) stop(`printed more than ${MAX_OUTPUT_BYTES} bytes`);
        else output[stream].push(chunk);
      });
    }
    // A program that ends before it has read everything closes the pipe; its exit status says why.
    child.stdin.on('error', () => {});
    child.stdin.end(stdin);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(toolError(`${program} cannot be run: ${messageOf(error)}`));
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (failure !== null) {
        reject(toolError(`${argv.join(' ')} ${failure} and was ended`));
        return;
      }
      const text = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString('utf8');
      const status = code ?? 128 + (signal === 'SIGKILL' ? 9 : 15);
      resolve({ status, stdout: text(output.stdout), stderr: text(output.stderr) });
    });
  });
}

function toolError(message: string): PosternError {
  return new PosternError('ERR_INTERCEPT_TOOL', message, { exitCode: EXIT.osError });
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

export const thisMachine: Machine = { locate, run, read };
