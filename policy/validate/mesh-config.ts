import { isTrustDomain } from '../../mesh/spiffe-id.ts';
import { field } from '../json.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject } from '../types.ts';
import { validateExtensionProviders } from './extension-providers.ts';
import { type Finding, Findings, type Path } from './findings.ts';
import { isDnsLabel } from './names.ts';

const FIELDS = [
  'trustDomainAliases',
  'rootNamespace',
  'outboundTrafficPolicy',
  'defaultAction',
  'pathNormalization',
  'extensionProviders',
];
const NORMALIZATIONS = ['DEFAULT', 'NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES'];
const MAX_ALIASES = 64;

export function validateMeshConfig(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), ['spec']);
  if (spec === null) return;
  const { trustDomain: _, ...rest } = spec;
  if (Object.hasOwn(spec, 'trustDomain')) {
    findings.error(
      ['spec', 'trustDomain'],
      'the trust domain is set where the control plane is configured, not in a manifest',
    );
  }
  findings.onlyFields(rest, ['spec'], FIELDS);
  validateSettings(spec, ['spec'], findings);
}

/** The settings as a map of their own, the trust domain among them. Other fields are not looked at: Istio's meshConfig has many. */
export function validateMeshSettings(settings: JsonObject): readonly Finding[] {
  const findings = new Findings();
  const trustDomain = findings.string(field(settings, 'trustDomain'), ['trustDomain']);
  if (trustDomain !== null && !isTrustDomain(trustDomain)) {
    findings.error(['trustDomain'], `${quoted(trustDomain)} is not a trust domain`);
  }
  validateSettings(settings, [], findings);
  return findings.all;
}

function validateSettings(settings: JsonObject, path: Path, findings: Findings): void {
  const aliases = findings.strings(field(settings, 'trustDomainAliases'), [...path, 'trustDomainAliases'], MAX_ALIASES);
  for (const { text, path: at } of aliases) {
    if (!isTrustDomain(text)) findings.error(at, `${quoted(text)} is not a trust domain`);
  }
  const rootNamespace = findings.string(field(settings, 'rootNamespace'), [...path, 'rootNamespace']);
  if (rootNamespace !== null && !isDnsLabel(rootNamespace)) {
    findings.error([...path, 'rootNamespace'], `${quoted(rootNamespace)} is not the name of a namespace`);
  }
  const outboundPath = [...path, 'outboundTrafficPolicy'];
  const outbound = findings.object(field(settings, 'outboundTrafficPolicy'), outboundPath, ['mode']);
  findings.oneOf(field(outbound, 'mode'), [...outboundPath, 'mode'], ['ALLOW_ANY', 'REGISTRY_ONLY']);
  findings.oneOf(field(settings, 'defaultAction'), [...path, 'defaultAction'], ['ALLOW', 'DENY']);
  const pathPath = [...path, 'pathNormalization'];
  const normalization = findings.object(field(settings, 'pathNormalization'), pathPath, ['normalization']);
  findings.oneOf(field(normalization, 'normalization'), [...pathPath, 'normalization'], NORMALIZATIONS);
  validateExtensionProviders(field(settings, 'extensionProviders'), [...path, 'extensionProviders'], findings);
}
