import { type Injection, type InjectionContext, inject } from '../../../kubernetes/injection/inject.ts';
import { INJECTED, INJECTION_DEFAULTS, type InjectionSettings } from '../../../kubernetes/injection/types.ts';
import { asObject, asString, field, isList } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';

export const SETTINGS: InjectionSettings = {
  ...INJECTION_DEFAULTS,
  image: 'registry.example/postern:1.0',
  controlPlaneAddress: 'https://postern-control-plane.postern-system.svc:15012',
  trustDomain: 'cluster.local',
};

export const CONTEXT: InjectionContext = {
  namespaceLabels: { 'postern.dev/inject': 'enabled' },
  workload: null,
  version: '0.1.0',
};

/** A pod of one container, with what is said here in its place. */
export function podOf(parts: { readonly metadata?: JsonObject; readonly spec?: JsonObject } = {}): JsonObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'orders-0', labels: { app: 'orders' }, ...parts.metadata },
    spec: { serviceAccountName: 'orders', containers: [{ name: 'app', image: 'app:1' }], ...parts.spec },
  };
}

export function annotated(annotations: { readonly [name: string]: string }): JsonObject {
  return podOf({ metadata: { annotations } });
}

/** With its one container so changed. */
export function podWith(container: JsonObject): JsonObject {
  return podOf({ spec: { containers: [{ name: 'app', image: 'app:1', ...container }] } });
}

export function run(
  pod: JsonObject,
  settings: Partial<InjectionSettings> = {},
  context: Partial<InjectionContext> = {},
): Injection {
  return inject(pod, { ...CONTEXT, ...context }, { ...SETTINGS, ...settings });
}

/** The injected pod. @throws where it was not injected. */
export function injected(pod: JsonObject, settings: Partial<InjectionSettings> = {}): JsonObject {
  const result = run(pod, settings);
  if (result.outcome !== 'injected') throw new Error(`not injected: ${JSON.stringify(result)}`);
  return result.pod;
}

export function errorsOf(result: Injection): readonly string[] {
  if (result.outcome !== 'refused') throw new Error(`not refused: ${JSON.stringify(result).slice(0, 500)}`);
  return result.errors.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

export function at(value: JsonValue | undefined, ...path: readonly (string | number)[]): JsonValue | undefined {
  return path.reduce<JsonValue | undefined>((node, part) => {
    if (typeof part === 'number') return isList(node) ? node[part] : undefined;
    return field(asObject(node), part);
  }, value);
}

export function container(pod: JsonObject, name: string): JsonObject {
  const lists = [at(pod, 'spec', 'initContainers'), at(pod, 'spec', 'containers')];
  const all = lists.flatMap((list) => (isList(list) ? list : [])).map((item) => asObject(item));
  const found = all.find((item) => field(item, 'name') === name) ?? null;
  if (found === null) throw new Error(`there is no container ${name}`);
  return found;
}

/** The text of POSTERN_CONFIG as the injector wrote it. */
export function settingsText(pod: JsonObject): string {
  const env = field(container(pod, INJECTED.sidecar), 'env');
  const entry = (isList(env) ? env : []).find((item) => at(item, 'name') === INJECTED.settingsVariable);
  return asString(at(entry, 'value')) ?? '';
}

/**
 * What the kubelet makes of a variable's text: `$$` is a dollar, `$(NAME)` the value of a variable that stands before it; anything else stays.
 */
export function expanded(text: string, variables: { readonly [name: string]: string }): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const next = text[i + 1];
    if (text[i] !== '$' || next === undefined) {
      out += text[i];
    } else if (next === '$') {
      out += '$';
      i++;
    } else if (next === '(' && text.includes(')', i)) {
      const end = text.indexOf(')', i);
      const name = text.slice(i + 2, end);
      out += variables[name] ?? `$(${name})`;
      i = end;
    } else {
      out += `$${next}`;
      i++;
    }
  }
  return out;
}

export const VARIABLES = {
  POD_NAME: 'orders-0',
  POD_NAMESPACE: 'shop',
  POD_IPS: '10.1.2.3,fd00::3',
  SERVICE_ACCOUNT: 'orders',
};

/** The settings that the sidecar reads once the kubelet has expanded them. */
export function sidecarSettingsOf(pod: JsonObject): JsonObject {
  return JSON.parse(expanded(settingsText(pod), VARIABLES)) as JsonObject;
}
