/** The policy library: parse, validate, select, compile, decide, explain. Pure: no I/O, no clock. */
export { compileAuthentication } from './authentication.ts';
export { compilePolicies } from './authorization.ts';
export { type Cidr, cidrContains, type IpAddress, parseCidr, parseIp } from './ip.ts';
export { duplicateManifests, objectKey, parseManifests } from './manifest.ts';
export { meshSettings, readExtensionProviders, readMeshSettings, readPathNormalization } from './mesh-settings.ts';
export { type NormalizedTarget, normalizePath } from './path-normalization.ts';
export { selects } from './selection.ts';
export { wireText } from './string-match.ts';
export type * from './types.ts';
export { type Finding, pathText } from './validate/findings.ts';
export { validateMeshSettings } from './validate/mesh-config.ts';
export { validateManifest, validateObject } from './validate/validate.ts';
export { parseYaml, YAML_LIMITS, type YamlDocument, type YamlLimits } from './yaml-document.ts';
