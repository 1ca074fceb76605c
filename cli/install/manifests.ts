import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseControlPlaneConfig } from '../../control-plane/config.ts';
import { renderKustomizations } from '../../kubernetes/install/kustomization.ts';
import {
  changeSettings,
  type SettingChange,
  settingsIn,
  withImage,
  withSettings,
} from '../../kubernetes/install/settings.ts';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import type { JsonObject } from '../../policy/types.ts';
import { parseYaml } from '../../policy/yaml-document.ts';

const ROOT = fileURLToPath(new URL('../../manifests/kubernetes', import.meta.url));

/** What a component needs in the control plane's settings; kustomize cannot change a part of a file. */
const COMPONENT_SETTINGS: { readonly [component: string]: readonly SettingChange[] } = {
  'external-ca': [{ path: ['kubernetes', 'ca'], value: { externalSecret: 'postern-external-ca' } }],
  'istio-labels': [{ path: ['kubernetes', 'injection', 'understandIstioLabels'], value: true }],
};

export interface ManifestChoice {
  readonly overlay: string;
  readonly components: readonly string[];
  /** Of the control plane and of sidecars; absent: as the manifests say. */
  readonly image?: string | undefined;
  /** `key.of.setting=value`, the value as YAML. */
  readonly settings: readonly string[];
}

export const overlays = (): readonly string[] => directories('overlays');
export const components = (): readonly string[] => directories('components');

/** An installation as chosen. @throws PosternError ERR_USAGE where a choice or a setting is none, ERR_KUSTOMIZATION */
export function renderInstallation({
  overlay,
  components: wanted,
  image,
  settings,
}: ManifestChoice): readonly JsonObject[] {
  requireKnown('--overlay', overlay, overlays());
  for (const component of wanted) requireKnown('--component', component, components());
  const rendered = renderKustomizations(
    [join(ROOT, 'overlays', overlay), join(ROOT, 'istio-crds')],
    wanted.map((component) => join(ROOT, 'components', component)),
  );
  const changes = [
    ...wanted.flatMap((component) => COMPONENT_SETTINGS[component] ?? []),
    ...(image === undefined ? [] : [{ path: ['kubernetes', 'injection', 'image'], value: image }]),
    ...settings.map(readSetting),
  ];
  const text = changed(settingsIn(rendered), changes);
  const objects = withSettings(rendered, text);
  return image === undefined ? objects : withImage(objects, image);
}

/** Everything that any choice may have installed. */
export function everythingInstallable(): readonly JsonObject[] {
  return renderKustomizations(
    [join(ROOT, 'overlays', 'ha'), join(ROOT, 'istio-crds')],
    components().map((component) => join(ROOT, 'components', component)),
  );
}

function changed(text: string, changes: readonly SettingChange[]): string {
  let result: string;
  try {
    result = changeSettings(text, changes);
  } catch (error) {
    throw usage(`--set leads through something that is no section: ${messageOf(error)}`);
  }
  // The control plane would refuse them too, in a pod whose log nobody looks at.
  parseControlPlaneConfig(result, 'control-plane.yaml');
  return result;
}

function readSetting(flag: string): SettingChange {
  const equals = flag.indexOf('=');
  const path = flag.slice(0, Math.max(0, equals)).split('.');
  if (path.some((key) => key === '')) throw usage(`--set ${flag} is not of the form key.of.setting=value`);
  const { documents, problems } = parseYaml(flag.slice(equals + 1), '--set');
  const [problem] = problems;
  if (problem !== undefined) throw usage(`--set ${flag}: the value is no plain YAML: ${problem.message}`);
  return { path, value: documents[0]?.value ?? '' };
}

function directories(kind: string): readonly string[] {
  return readdirSync(join(ROOT, kind))
    .filter((name) => statSync(join(ROOT, kind, name)).isDirectory())
    .sort();
}

function requireKnown(flag: string, name: string, known: readonly string[]): void {
  if (!known.includes(name)) throw usage(`${flag} ${name}: there is none of this name, only ${known.join(', ')}`);
}

const usage = (message: string): PosternError => new PosternError('ERR_USAGE', message, { exitCode: EXIT.usage });
