import { createHash } from 'node:crypto';
import { parseDocument } from 'yaml';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import { identityOf } from './identity.ts';

/** ConfigMap and key of the control plane's settings, and the container that reads them. */
export const SETTINGS = {
  configMap: 'postern-control-plane',
  key: 'control-plane.yaml',
  deployment: 'postern-control-plane',
  container: 'control-plane',
} as const;

/** One setting: where it is in the file, and what it is to be. */
export interface SettingChange {
  readonly path: readonly string[];
  readonly value: JsonValue;
}

/** The file with its settings changed; comments stay. */
export function changeSettings(text: string, changes: readonly SettingChange[]): string {
  const document = parseDocument(text);
  for (const { path, value } of changes) {
    // A section that is not there yet is made; setIn does not make maps of what is null.
    document.setIn(path, document.createNode(value));
  }
  return document.toString({ lineWidth: 0 });
}

/** The text of the control plane's settings among the objects. @throws PosternError ERR_KUSTOMIZATION */
export function settingsIn(objects: readonly JsonObject[]): string {
  const configMap = objects.find(isSettings) ?? missing(`ConfigMap ${SETTINGS.configMap}`);
  const text = asString(field(asObject(field(configMap, 'data')), SETTINGS.key));
  return text ?? missing(`${SETTINGS.key} in ConfigMap ${SETTINGS.configMap}`);
}

export function withSettings(objects: readonly JsonObject[], text: string): readonly JsonObject[] {
  return objects.map((object) =>
    isSettings(object)
      ? { ...object, data: { ...asObject(field(object, 'data')), [SETTINGS.key]: text } }
      : withDigest(object, text),
  );
}

/** The image of the control plane itself; that of sidecars is a setting. */
export function withImage(objects: readonly JsonObject[], image: string): readonly JsonObject[] {
  return objects.map((object) => {
    const { kind, name } = identityOf(object);
    if (kind !== 'Deployment' || name !== SETTINGS.deployment) return object;
    return inPod(object, (pod) => {
      const spec = asObject(field(pod, 'spec'));
      const containers = field(spec, 'containers');
      const changed = (Array.isArray(containers) ? (containers as readonly JsonValue[]) : []).map((container) =>
        field(asObject(container), 'name') === SETTINGS.container ? { ...asObject(container), image } : container,
      );
      return { ...pod, spec: { ...spec, containers: changed } };
    });
  });
}

/** Settings are read at the start: with other settings the Deployment has other pods. */
function withDigest(object: JsonObject, text: string): JsonObject {
  const { kind, name } = identityOf(object);
  if (kind !== 'Deployment' || name !== SETTINGS.deployment) return object;
  return inPod(object, (pod) => {
    const metadata = asObject(field(pod, 'metadata'));
    const annotations = { ...asObject(field(metadata, 'annotations')), 'postern.dev/settings': digest(text) };
    return { ...pod, metadata: { ...metadata, annotations } };
  });
}

function inPod(deployment: JsonObject, change: (pod: JsonObject) => JsonObject): JsonObject {
  const spec = asObject(field(deployment, 'spec'));
  return { ...deployment, spec: { ...spec, template: change(asObject(field(spec, 'template')) ?? {}) } };
}

function isSettings(object: JsonObject): boolean {
  const { kind, name } = identityOf(object);
  return kind === 'ConfigMap' && name === SETTINGS.configMap;
}

function missing(what: string): never {
  const message = `the manifests have no ${what}: restore them, or install with kubectl`;
  throw new PosternError('ERR_KUSTOMIZATION', message, { exitCode: EXIT.dataError });
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);
