import { parseCidr, parseIp } from '../ip.ts';
import { asString, field, isAbsent } from '../json.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import { validateExportTo } from './export-to.ts';
import type { Findings, Path } from './findings.ts';
import { isDnsLabel, isHostName, isWildcardHostName } from './names.ts';
import { validateWorkloadFields, WORKLOAD_ENTRY_FIELDS } from './workload-entry.ts';

const SPEC = ['spec'];
const FIELDS = [
  'hosts',
  'addresses',
  'ports',
  'location',
  'resolution',
  'endpoints',
  'workloadSelector',
  'exportTo',
  'subjectAltNames',
];
const LOCATIONS = ['MESH_EXTERNAL', 'MESH_INTERNAL'];
const RESOLUTIONS = ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'];
const PORT_FIELDS = ['number', 'name', 'protocol', 'targetPort'];
/** Istio's bounds in the schema of its CRD. */
const MAX_ITEMS = 256;
const MAX_ENDPOINTS = 4096;

/** The protocols whose requests name the host that they want, so that several hosts may share addresses; then the others. */
const NAMING_PROTOCOLS = ['HTTP', 'HTTP2', 'HTTP_PROXY', 'GRPC', 'GRPC-WEB', 'HTTPS', 'TLS'];
const PROTOCOLS = [...NAMING_PROTOCOLS, 'TCP', 'UDP', 'MONGO', 'REDIS', 'MYSQL', 'HBONE'];

/** Istio's admission rules of ServiceEntry, and what Postern adds: unknown fields are errors, and it warns of what it does not act on. */
export function validateServiceEntry(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), SPEC, FIELDS) ?? {};
  findings.oneOf(field(spec, 'location'), [...SPEC, 'location'], LOCATIONS);
  const resolution = findings.oneOf(field(spec, 'resolution'), [...SPEC, 'resolution'], RESOLUTIONS) ?? 'NONE';
  const hosts = validateHosts(spec, findings);
  const addresses = validateAddresses(spec, resolution, findings);
  const ports = validatePorts(spec, findings);
  const endpoints = findings.items(field(spec, 'endpoints'), [...SPEC, 'endpoints'], MAX_ENDPOINTS);
  for (const [index, endpoint] of endpoints.entries()) {
    validateEndpoint(endpoint, [...SPEC, 'endpoints', index], resolution, ports.names, findings);
  }
  validateWorkloadSelector(spec, resolution, endpoints.length > 0, findings);
  validateResolution(resolution, hosts, endpoints.length, findings);
  if (hosts.length > 1 && resolution !== 'NONE' && ports.isNameless) {
    findings.error(
      [...SPEC, 'hosts'],
      'several hosts need ports of HTTP or TLS alone: connections of other protocols do not say which one they want',
    );
  }
  warnOfAddresses(resolution, addresses, findings);
  validateExportTo(object, findings);
  findings.strings(field(spec, 'subjectAltNames'), [...SPEC, 'subjectAltNames'], MAX_ITEMS);
  if (!isAbsent(field(spec, 'subjectAltNames'))) {
    findings.warn([...SPEC, 'subjectAltNames'], 'ignored: endpoints show the identity of their service account');
  }
}

function validateHosts(spec: JsonObject, findings: Findings): readonly string[] {
  const path = [...SPEC, 'hosts'];
  const hosts = findings.strings(field(spec, 'hosts'), path, MAX_ITEMS);
  if (hosts.length === 0) findings.error(path, 'a ServiceEntry needs at least one host');
  for (const { text, path: at } of hosts) {
    if (!isWildcardHostName(text)) {
      findings.error(at, `${quoted(text)} is not a host name; "*" may stand for its first label, not for all of it`);
    }
  }
  return hosts.map(({ text }) => text);
}

function validateAddresses(spec: JsonObject, resolution: string, findings: Findings): readonly string[] {
  const path = [...SPEC, 'addresses'];
  const addresses = findings.strings(field(spec, 'addresses'), path, MAX_ITEMS);
  for (const { text, path: at } of addresses) {
    if (parseCidr(text) === null) findings.error(at, `${quoted(text)} is neither an IP address nor a CIDR block`);
    else if (!text.includes('/')) continue;
    else if (resolution !== 'NONE' && resolution !== 'STATIC') {
      findings.error(at, `a CIDR block needs resolution NONE or STATIC, not ${resolution}`);
    } else if (resolution === 'STATIC' && !isSingle(text)) {
      findings.warn(at, `${quoted(text)} is ignored: a service with endpoints is found at single addresses`);
    }
  }
  return addresses.map(({ text }) => text);
}

function isSingle(block: string): boolean {
  const cidr = parseCidr(block);
  return cidr !== null && cidr.prefix === cidr.address.words.length * 32;
}

interface Ports {
  readonly names: ReadonlySet<string>;
  /** Whether one is of a protocol that does not say which host is wanted. */
  readonly isNameless: boolean;
}

function validatePorts(spec: JsonObject, findings: Findings): Ports {
  const names = new Set<string>();
  const numbers = new Set<number>();
  let isNameless = false;
  for (const [index, item] of findings.items(field(spec, 'ports'), [...SPEC, 'ports'], MAX_ITEMS).entries()) {
    const path = [...SPEC, 'ports', index];
    if (item === null) findings.error(path, 'a port must not be null');
    const port = findings.object(item, path, PORT_FIELDS);
    if (port === null) continue;
    const name = findings.requiredString(field(port, 'name'), [...path, 'name'], 'a port needs a name');
    if (name !== null && !isDnsLabel(name)) {
      findings.error([...path, 'name'], `${quoted(name)} must be of lower-case letters, digits and "-"`);
    }
    if (name !== null && names.has(name)) findings.error([...path, 'name'], `there are two ports called ${name}`);
    if (name !== null) names.add(name);
    const number = findings.integer(field(port, 'number'), [...path, 'number'], 1, 65_535);
    if (isAbsent(field(port, 'number'))) findings.error(path, 'a port needs a number');
    if (number !== null && numbers.has(number)) {
      findings.error([...path, 'number'], `there are two ports ${number}`);
    }
    if (number !== null) numbers.add(number);
    const target = field(port, 'targetPort');
    // Istio takes 0 for absent.
    if (target !== 0) findings.integer(target, [...path, 'targetPort'], 1, 65_535);
    const protocol = validateProtocol(field(port, 'protocol'), [...path, 'protocol'], findings);
    if (!NAMING_PROTOCOLS.includes(protocol)) isNameless = true;
  }
  return { names, isNameless };
}

/** In upper case; TCP where none is written, for nothing else is known of it. */
function validateProtocol(value: JsonValue | undefined, path: Path, findings: Findings): string {
  // Istio takes the empty string for absent.
  const text = value === '' ? null : findings.string(value, path);
  const protocol = text?.toUpperCase() ?? 'TCP';
  if (!PROTOCOLS.includes(protocol)) {
    findings.error(path, `${path.at(-1)} ${quoted(text ?? '')} is unknown; it must be ${PROTOCOLS.join(', ')}`);
  } else if (protocol === 'UDP') findings.warn(path, 'the mesh carries TCP: this port is ignored');
  return protocol;
}

function validateEndpoint(
  value: JsonValue,
  path: Path,
  resolution: string,
  ports: ReadonlySet<string>,
  findings: Findings,
): void {
  if (value === null) findings.error(path, 'an endpoint must not be null');
  const endpoint = findings.object(value, path, WORKLOAD_ENTRY_FIELDS);
  if (endpoint === null) return;
  const at = [...path, 'address'];
  const address = findings.requiredString(field(endpoint, 'address'), at, 'an endpoint needs an address');
  if (address !== null && parseIp(address) === null) {
    const mayBeName = resolution.includes('DNS');
    if (!mayBeName) findings.error(at, `${quoted(address)} is not an IP address; sockets are not dialled`);
    else if (!isHostName(address)) findings.error(at, `${quoted(address)} is neither an IP address nor a host name`);
  }
  validateWorkloadFields(endpoint, path, findings);
  for (const name of Object.keys(findings.object(field(endpoint, 'ports'), [...path, 'ports']) ?? {})) {
    if (!ports.has(name)) findings.error([...path, 'ports', name], `the ServiceEntry has no port ${quoted(name)}`);
  }
}

function validateWorkloadSelector(
  spec: JsonObject,
  resolution: string,
  hasEndpoints: boolean,
  findings: Findings,
): void {
  const path = [...SPEC, 'workloadSelector'];
  const selector = findings.object(field(spec, 'workloadSelector'), path, ['labels']);
  if (selector === null) return;
  if (hasEndpoints) findings.error(SPEC, 'only one of workloadSelector and endpoints may be given');
  if (resolution !== 'STATIC') findings.warn(path, `ignored with resolution ${resolution}: it needs STATIC`);
  const labels = findings.object(field(selector, 'labels'), [...path, 'labels']) ?? {};
  findings.stringMap(labels, [...path, 'labels']);
  for (const [key, value] of Object.entries(labels)) {
    const at = [...path, 'labels', key];
    if (key === '') findings.error(at, 'the key of a label must not be empty');
    if (key.includes('*') || asString(value)?.includes('*') === true) {
      findings.error(at, 'labels are matched exactly: "*" is not allowed in a key or value');
    }
  }
  if (Object.keys(labels).length === 0) {
    findings.warn(path, 'a selector without labels selects every workload of the namespace');
  }
}

function validateResolution(resolution: string, hosts: readonly string[], endpoints: number, findings: Findings): void {
  if (resolution === 'NONE' && endpoints > 0) {
    findings.error(
      [...SPEC, 'endpoints'],
      'resolution NONE goes where the caller wants: remove the endpoints, or use STATIC',
    );
  }
  if (resolution === 'DNS_ROUND_ROBIN' && endpoints > 1) {
    findings.error([...SPEC, 'endpoints'], 'resolution DNS_ROUND_ROBIN takes one endpoint at most');
  }
  const asksHosts = resolution === 'DNS' || resolution === 'DNS_ROUND_ROBIN';
  if (asksHosts && endpoints === 0 && hosts.some((host) => host.includes('*'))) {
    findings.error(
      [...SPEC, 'hosts'],
      `with resolution ${resolution} and no endpoints, hosts must be whole names without "*"`,
    );
  }
}

function warnOfAddresses(resolution: string, addresses: readonly string[], findings: Findings): void {
  if (addresses.length > 0) return;
  if (resolution === 'STATIC') {
    findings.warn(SPEC, 'without addresses nobody finds it: connections are told apart by the address they go to');
  } else {
    findings.warn(
      SPEC,
      'host names are not resolved: without addresses this entry has no effect, and a mesh with REGISTRY_ONLY does not reach its hosts',
    );
  }
}
