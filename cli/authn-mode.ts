import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import { compileAuthentication, type JsonValue, type MtlsMode, type PolicyWorkload } from '../policy/index.ts';
import { isObject, loadMesh } from './mesh-file.ts';

export interface AuthnModeOptions {
  readonly manifests: string;
  readonly workload: string;
  readonly port: string;
  readonly meshConfig?: string;
}

/**
 * The mode in force at a port of a workload, by the manifests alone.
 * @throws PosternError where an option or a file is wrong: a mode from what was half understood would be worse than none.
 */
export function authnMode(options: AuthnModeOptions): MtlsMode {
  const port = readPort(options.port);
  const workload = readWorkload(options.workload);
  const { manifests, mesh } = loadMesh(options.manifests, options.meshConfig);
  const objects = manifests.map(({ object }) => object);
  return compileAuthentication(objects, workload, mesh).mode(port);
}

const PORT = /^[0-9]{1,5}$/;

function readPort(text: string): number {
  const port = PORT.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw usage(`--port ${JSON.stringify(text)} must be a number from 1 to 65535`);
  return port;
}

function readWorkload(text: string): PolicyWorkload {
  const value = parseJson(text);
  if (!isObject(value)) throw usage('--workload must be a JSON object with namespace and labels');
  const { namespace, labels = {}, ...rest } = value;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined)
    throw usage(`--workload has an unknown field ${JSON.stringify(unknown)}; known are namespace, labels`);
  if (typeof namespace !== 'string' || namespace === '') throw usage('--workload needs a namespace, a string');
  if (!isObject(labels)) throw usage('labels of --workload must be an object of strings');
  const strings: { [key: string]: string } = {};
  for (const [key, label] of Object.entries(labels)) {
    if (typeof label !== 'string') throw usage(`label ${JSON.stringify(key)} of --workload must be a string`);
    strings[key] = label;
  }
  return { namespace, labels: strings };
}

function parseJson(text: string): JsonValue {
  try {
    const value: JsonValue = JSON.parse(text);
    return value;
  } catch (error) {
    throw usage(`--workload is not JSON: ${messageOf(error)}`);
  }
}

function usage(message: string): PosternError {
  return new PosternError('ERR_USAGE', message, { exitCode: EXIT.usage });
}
