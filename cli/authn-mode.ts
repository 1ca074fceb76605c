import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import type { MeshConfigResource } from '../mesh/resources.ts';
import {
  compileAuthentication,
  type JsonObject,
  type JsonValue,
  type Manifest,
  type MtlsMode,
  meshSettings,
  type PolicyWorkload,
  type Problem,
  parseYaml,
  readMeshSettings,
  validateMeshSettings,
} from '../policy/index.ts';
import { loadManifests, problemLine, readText } from './manifest-files.ts';

export interface AuthnModeOptions {
  readonly manifests: string;
  readonly workload: string;
  readonly port: string;
  readonly meshConfig?: string;
}

/** The trust domain has no part in the mode; Istio's default stands in where nothing names it. */
const DEFAULT_TRUST_DOMAIN = 'cluster.local';

/**
 * The mode in force at a port of a workload, by the manifests alone.
 * @throws PosternError where an option or a file is wrong: a mode from what was half understood would be worse than none.
 */
export function authnMode(options: AuthnModeOptions): MtlsMode {
  const port = readPort(options.port);
  const workload = readWorkload(options.workload);
  const { manifests, problems } = loadManifests([options.manifests]);
  refuseErrors('ERR_MANIFEST', 'the manifests are not admissible', problems);
  const mesh = options.meshConfig === undefined ? meshOf(manifests) : readMeshFile(options.meshConfig);
  const objects = manifests.map(({ object }) => object);
  return compileAuthentication(objects, workload, mesh).mode(port);
}

function refuseErrors(code: string, what: string, problems: readonly Problem[]): void {
  const errors = problems.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw inadmissible(code, what, errors);
}

function inadmissible(code: string, what: string, errors: readonly Problem[]): PosternError {
  return new PosternError(code, `${what}:\n${errors.map(problemLine).join('\n')}`, { exitCode: EXIT.dataError });
}

function meshOf(manifests: readonly Manifest[]): MeshConfigResource {
  const manifest = manifests.find(({ kind }) => kind === 'MeshConfig');
  return meshSettings(manifest?.object ?? null, DEFAULT_TRUST_DOMAIN);
}

/** Settings under the names of Istio's meshConfig; those that Postern does not have are ignored. */
function readMeshFile(file: string): MeshConfigResource {
  const what = 'the mesh settings cannot be used';
  const text = readText(file);
  if (typeof text !== 'string') throw inadmissible('ERR_MESH_CONFIG', what, [text]);
  const { documents, problems } = parseYaml(text, file);
  refuseErrors('ERR_MESH_CONFIG', what, problems);
  const [document] = documents;
  if (document === undefined || documents.length > 1 || !isObject(document.value)) {
    throw new PosternError('ERR_MESH_CONFIG', `${what}: ${file} must hold one map of settings`, {
      exitCode: EXIT.dataError,
    });
  }
  const settings = document.value;
  const findings = validateMeshSettings(settings).map(({ path, severity, message }): Problem => {
    return { severity, message, location: document.locate(path), resource: null };
  });
  refuseErrors('ERR_MESH_CONFIG', what, findings);
  const { trustDomain } = settings;
  return readMeshSettings(settings, typeof trustDomain === 'string' ? trustDomain : DEFAULT_TRUST_DOMAIN);
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

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function usage(message: string): PosternError {
  return new PosternError('ERR_USAGE', message, { exitCode: EXIT.usage });
}
