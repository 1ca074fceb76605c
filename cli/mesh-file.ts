import { EXIT, PosternError } from '../mesh/errors.ts';
import type { MeshConfigResource } from '../mesh/resources.ts';
import {
  type JsonObject,
  type JsonValue,
  type Manifest,
  meshSettings,
  type Problem,
  parseYaml,
  readMeshSettings,
  validateMeshSettings,
} from '../policy/index.ts';
import { loadManifests, problemLine, readText } from './manifest-files.ts';

/** Istio's default, where nothing names another. */
const DEFAULT_TRUST_DOMAIN = 'cluster.local';

/**
 * The manifests at `path` and the settings of their mesh: those of `meshFile` where it is given, else of the MeshConfig among the manifests, else
 * the defaults.
 * @throws PosternError where any of it is not admissible: an answer from what was half understood would be worse than none.
 */
export function loadMesh(
  path: string,
  meshFile: string | undefined,
): { readonly manifests: readonly Manifest[]; readonly mesh: MeshConfigResource } {
  const { manifests, problems } = loadManifests([path]);
  refuseErrors('ERR_MANIFEST', 'the manifests are not admissible', problems);
  const manifest = manifests.find(({ kind }) => kind === 'MeshConfig');
  const mesh =
    meshFile === undefined ? meshSettings(manifest?.object ?? null, DEFAULT_TRUST_DOMAIN) : readMeshFile(meshFile);
  return { manifests, mesh };
}

function refuseErrors(code: string, what: string, problems: readonly Problem[]): void {
  const errors = problems.filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw inadmissible(code, what, errors);
}

function inadmissible(code: string, what: string, errors: readonly Problem[]): PosternError {
  return new PosternError(code, `${what}:\n${errors.map(problemLine).join('\n')}`, { exitCode: EXIT.dataError });
}

/** Settings under the names of Istio's meshConfig, those that Postern does not have being ignored; or a MeshConfig manifest. */
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
  const { kind, spec = {} } = document.value;
  const isManifest = kind === 'MeshConfig';
  const settings = isManifest && isObject(spec) ? spec : document.value;
  const findings = validateMeshSettings(settings).map(({ path, part, severity, message }): Problem => {
    const location = document.locate(isManifest ? ['spec', ...path] : path, part);
    return { severity, message, location, resource: null };
  });
  refuseErrors('ERR_MESH_CONFIG', what, findings);
  const { trustDomain } = settings;
  return readMeshSettings(settings, typeof trustDomain === 'string' ? trustDomain : DEFAULT_TRUST_DOMAIN);
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
