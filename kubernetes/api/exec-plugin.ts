import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { messageOf } from '../../mesh/errors.ts';
import { asObject, asString, field, isAbsent, isList } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { checkedToken, credentialsError } from './credential-file.ts';

/** A program that prints credentials, as `users[].user.exec` of a kubeconfig describes it (client.authentication.k8s.io). */
export interface ExecPluginSettings {
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: { readonly [name: string]: string };
  /** What `provideClusterInfo` asks to tell it; null where it does not ask. */
  readonly cluster: JsonObject | null;
}

/** What a plugin printed. Secret. */
export interface ExecCredential {
  readonly token: string | null;
  readonly client: { readonly certificate: string; readonly key: string } | null;
  /** Unix time, milliseconds; null: good until refused. */
  readonly expiresAt: number | null;
}

const API_VERSIONS = ['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1'];
/** A plugin may ask a person or a slow identity provider. */
const DEADLINE_MS = 60_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;
/** A credential that expires within this is got anew. */
const EXPIRY_SLACK_MS = 10_000;
/** Between two runs that refusals caused. */
const RERUN_MS = 5_000;

type Fail = (message: string) => never;

/** @throws what `fail` throws */
export function readExecSettings(
  exec: JsonObject,
  directory: string,
  cluster: JsonObject,
  fail: Fail,
): ExecPluginSettings {
  const apiVersion = asString(field(exec, 'apiVersion')) ?? '';
  if (!API_VERSIONS.includes(apiVersion)) fail(`exec.apiVersion must be ${API_VERSIONS.join(' or ')}`);
  const command = asString(field(exec, 'command')) ?? '';
  if (command === '') fail('exec.command is missing');
  if (field(exec, 'interactiveMode') === 'Always') {
    fail('exec.interactiveMode Always is refused: nobody is there to be asked; use a plugin that can do without');
  }
  const provide = field(exec, 'provideClusterInfo') === true;
  return {
    apiVersion,
    // As for kubectl: a bare name is looked up in PATH, a relative path counts from the kubeconfig.
    command: command.includes('/') ? resolve(directory, command) : command,
    args: strings(field(exec, 'args'), () => fail('exec.args must be a list of strings')),
    environment: readEnvironment(field(exec, 'env'), fail),
    cluster: provide ? cluster : null,
  };
}

function strings(value: JsonValue | undefined, fail: () => never): readonly string[] {
  if (isAbsent(value)) return [];
  if (!isList(value)) return fail();
  return value.map((item) => asString(item) ?? fail());
}

function readEnvironment(value: JsonValue | undefined, fail: Fail): { readonly [name: string]: string } {
  if (isAbsent(value)) return {};
  const wrong = (): never => fail('exec.env must be a list of { name, value }');
  if (!isList(value)) return wrong();
  const pairs = value.map((item): [string, string] => {
    const entry = asObject(item);
    return [asString(field(entry, 'name')) ?? wrong(), asString(field(entry, 'value')) ?? wrong()];
  });
  return Object.fromEntries(pairs);
}

/** Runs the plugin where its last answer has expired or was refused; whoever asks meanwhile waits for the same run. */
export class ExecPlugin {
  readonly #settings: ExecPluginSettings;
  readonly #deadlineMs: number;
  readonly #rerunMs: number;
  #known: ExecCredential | null = null;
  #running: Promise<ExecCredential> | null = null;
  #ranAt = Number.NEGATIVE_INFINITY;

  constructor(
    settings: ExecPluginSettings,
    { deadlineMs = DEADLINE_MS, rerunMs = RERUN_MS }: { readonly deadlineMs?: number; readonly rerunMs?: number } = {},
  ) {
    this.#settings = settings;
    this.#deadlineMs = deadlineMs;
    this.#rerunMs = rerunMs;
  }

  /** @throws PosternError ERR_KUBERNETES_CREDENTIALS */
  async credential(): Promise<ExecCredential> {
    const known = this.#known;
    if (known !== null && (known.expiresAt === null || known.expiresAt - EXPIRY_SLACK_MS > Date.now())) return known;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** What it gave is no good: it is asked again, though not all the time. */
  refused(credential: ExecCredential): void {
    if (this.#known === credential && performance.now() - this.#ranAt > this.#rerunMs) this.#known = null;
  }

  async #run(): Promise<ExecCredential> {
    this.#ranAt = performance.now();
    const { command } = this.#settings;
    const output = await this.#output();
    this.#known = readExecCredential(output, this.#settings.apiVersion, (message) => {
      throw credentialsError(`the credential plugin ${command} ${message}`);
    });
    return this.#known;
  }

  async #output(): Promise<string> {
    const { command, args, environment, apiVersion, cluster } = this.#settings;
    const spec = { interactive: false, ...(cluster === null ? {} : { cluster }) };
    const info = JSON.stringify({ apiVersion, kind: 'ExecCredential', spec });
    const { promise, resolve: done, reject } = Promise.withResolvers<string>();
    const fail = (message: string, cause?: unknown): void =>
      reject(credentialsError(`the credential plugin ${command} ${message}`, cause));
    const child = spawn(command, args, {
      env: { ...process.env, ...environment, KUBERNETES_EXEC_INFO: info },
      // What it says to a person goes to the terminal; we neither read nor keep it.
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: this.#deadlineMs,
      killSignal: 'SIGKILL',
    });
    const chunks: Buffer[] = [];
    let size = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_OUTPUT_BYTES) {
        fail(`printed more than ${MAX_OUTPUT_BYTES} bytes`);
        child.kill('SIGKILL');
      } else chunks.push(chunk);
    });
    child.on('error', (error) => fail(`cannot be run: ${messageOf(error)}`, error));
    child.on('close', (code, signal) => {
      if (code === 0) done(Buffer.concat(chunks).toString('utf8'));
      else if (signal === 'SIGKILL') fail(`did not finish within ${this.#deadlineMs} ms, or was killed`);
      else fail(`ended with ${code === null ? signal : `exit code ${code}`}; run it by hand to see why`);
    });
    return promise;
  }
}

/** Strict: of the version that was asked for, with a token, or a certificate and its key. NEVER quotes what was printed. */
export function readExecCredential(output: string, apiVersion: string, fail: Fail): ExecCredential {
  let printed: JsonObject | null;
  try {
    printed = asObject(JSON.parse(output) as JsonValue);
  } catch {
    return fail('printed something that is not JSON');
  }
  if (field(printed, 'kind') !== 'ExecCredential' || field(printed, 'apiVersion') !== apiVersion) {
    return fail(`did not print an ExecCredential of ${apiVersion}`);
  }
  const status = asObject(field(printed, 'status'));
  const text = (name: string): string | null => {
    const value = field(status, name);
    return isAbsent(value) || value === '' ? null : (asString(value) ?? fail(`printed a ${name} that is no string`));
  };
  const token = text('token');
  const certificate = text('clientCertificateData');
  const key = text('clientKeyData');
  if ((certificate === null) !== (key === null)) return fail('printed one of certificate and key without the other');
  if (token === null && certificate === null) return fail('printed neither a token nor a certificate');
  const expiry = text('expirationTimestamp');
  const expiresAt = expiry === null ? null : Date.parse(expiry);
  if (expiresAt !== null && Number.isNaN(expiresAt)) return fail('printed an expirationTimestamp that is no time');
  return {
    token: token === null ? null : checkedToken(token, 'what the credential plugin printed'),
    client: certificate === null || key === null ? null : { certificate, key },
    expiresAt,
  };
}
