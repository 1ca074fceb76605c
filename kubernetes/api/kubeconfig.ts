import { dirname } from 'node:path';
import { asObject, asString, field, isAbsent, isList } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { parseYaml } from '../../policy/yaml-document.ts';
import { credentialsError } from './credential-file.ts';

/** An entry of a kubeconfig, and the directory that its relative paths count from. */
export interface KubeconfigEntry {
  readonly name: string;
  readonly body: JsonObject;
  readonly file: string;
  readonly directory: string;
}

type Entries = ReadonlyMap<string, KubeconfigEntry>;

export interface Kubeconfig {
  readonly currentContext: string | null;
  readonly clusters: Entries;
  readonly users: Entries;
  readonly contexts: Entries;
}

export interface SelectedContext {
  readonly name: string;
  readonly cluster: KubeconfigEntry;
  /** Null: the context names none; the API server is asked without credentials. */
  readonly user: KubeconfigEntry | null;
  readonly namespace: string | null;
}

/**
 * Reads one file (`kind: Config`, v1). Its text is NEVER quoted in a message, since it holds keys and tokens.
 *
 * @throws PosternError ERR_KUBERNETES_CREDENTIALS
 */
export function parseKubeconfig(text: string, file: string): Kubeconfig {
  const { documents, problems } = parseYaml(text, file);
  const fault = problems.find(({ severity }) => severity === 'error');
  if (fault !== undefined) {
    const { line, column } = fault.location;
    throw credentialsError(`${file}:${line}:${column}: this is not plain YAML of one reading: put it right`);
  }
  const [document, ...others] = documents;
  if (others.length > 0) throw credentialsError(`${file}: a kubeconfig is one YAML document; this has several`);
  const config = asObject(document?.value ?? {});
  if (config === null) throw credentialsError(`${file}: a kubeconfig is a map with clusters, users and contexts`);
  const kind = field(config, 'kind');
  const version = field(config, 'apiVersion');
  if ((!isAbsent(kind) && kind !== 'Config') || (!isAbsent(version) && version !== 'v1')) {
    throw credentialsError(`${file}: this is not a kubeconfig: apiVersion must be v1 and kind Config`);
  }
  const current = asString(field(config, 'current-context'));
  return {
    currentContext: current === '' ? null : current,
    clusters: entries(config, 'clusters', 'cluster', file),
    users: entries(config, 'users', 'user', file),
    contexts: entries(config, 'contexts', 'context', file),
  };
}

function entries(config: JsonObject, list: string, key: string, file: string): Entries {
  const items: JsonValue | undefined = field(config, list);
  const found = new Map<string, KubeconfigEntry>();
  if (isAbsent(items)) return found;
  if (!isList(items)) throw credentialsError(`${file}: ${list} must be a list`);
  for (const [index, item] of items.entries()) {
    const name = asString(field(asObject(item), 'name')) ?? '';
    if (name === '') throw credentialsError(`${file}: ${list}[${index}] needs a name`);
    // Of two with one name the first counts, as for kubectl.
    if (found.has(name)) continue;
    const body = asObject(field(asObject(item), key) ?? {});
    if (body === null) throw credentialsError(`${file}: ${list}[${index}].${key} must be a map`);
    found.set(name, { name, body, file, directory: dirname(file) });
  }
  return found;
}

/** Of what several files name, the first counts: current-context, and each cluster, user and context whole. */
export function mergeKubeconfigs(files: readonly Kubeconfig[]): Kubeconfig {
  const merged = (pick: (config: Kubeconfig) => Entries): Entries => {
    const found = new Map<string, KubeconfigEntry>();
    for (const file of files) {
      for (const [name, entry] of pick(file)) if (!found.has(name)) found.set(name, entry);
    }
    return found;
  };
  return {
    currentContext: files.find(({ currentContext }) => currentContext !== null)?.currentContext ?? null,
    clusters: merged(({ clusters }) => clusters),
    users: merged(({ users }) => users),
    contexts: merged(({ contexts }) => contexts),
  };
}

/** @param name Null: the current context. @throws PosternError ERR_KUBERNETES_CREDENTIALS */
export function selectContext(config: Kubeconfig, name: string | null): SelectedContext {
  const wanted = name ?? config.currentContext;
  if (wanted === null) {
    throw credentialsError('the kubeconfig has no current-context: run kubectl config use-context NAME, or name one');
  }
  const context = config.contexts.get(wanted);
  if (context === undefined) {
    const known = [...config.contexts.keys()].join(', ');
    throw credentialsError(`the kubeconfig has no context ${wanted}; it has ${known === '' ? 'none' : known}`);
  }
  const named = (key: string): string | null => {
    const value = asString(field(context.body, key));
    return value === '' ? null : value;
  };
  const clusterName = named('cluster') ?? '';
  const cluster = config.clusters.get(clusterName);
  if (cluster === undefined) {
    throw credentialsError(`context ${wanted} names the cluster ${clusterName}, which the kubeconfig does not have`);
  }
  const userName = named('user');
  const user = userName === null ? null : (config.users.get(userName) ?? null);
  if (userName !== null && user === null) {
    throw credentialsError(`context ${wanted} names the user ${userName}, whom the kubeconfig does not have`);
  }
  return { name: wanted, cluster, user, namespace: named('namespace') };
}
