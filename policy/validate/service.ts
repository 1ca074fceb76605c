import { parseIp } from '../ip.ts';
import { field, isAbsent } from '../json.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import { type Findings, nearest, type Path, unknownField } from './findings.ts';
import { isDnsLabel, isPortName } from './names.ts';

const SPEC = ['spec'];
/** The fields of Kubernetes' ServiceSpec; the mesh acts on the first four. */
const FIELDS = [
  'ports',
  'selector',
  'clusterIP',
  'clusterIPs',
  'type',
  'externalIPs',
  'externalName',
  'externalTrafficPolicy',
  'internalTrafficPolicy',
  'trafficDistribution',
  'healthCheckNodePort',
  'ipFamilies',
  'ipFamilyPolicy',
  'allocateLoadBalancerNodePorts',
  'loadBalancerClass',
  'loadBalancerIP',
  'loadBalancerSourceRanges',
  'publishNotReadyAddresses',
  'sessionAffinity',
  'sessionAffinityConfig',
];
const TYPES = ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'];
const PROTOCOLS = ['TCP', 'UDP', 'SCTP'];
const PORT_FIELDS = ['name', 'port', 'targetPort', 'protocol', 'appProtocol', 'nodePort'];
const HEADLESS = 'None';

/** A `v1` Service as far as the mesh acts on it; what is Kubernetes' own may stand. */
export function validateService(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), SPEC);
  if (spec === null) {
    findings.error(SPEC, 'a Service needs a spec');
    return;
  }
  validateFieldNames(spec, findings);
  const type = findings.oneOf(field(spec, 'type'), [...SPEC, 'type'], TYPES) ?? 'ClusterIP';
  validateAddresses(spec, findings);
  findings.stringMap(field(spec, 'selector'), [...SPEC, 'selector']);
  const ports = findings.items(field(spec, 'ports'), [...SPEC, 'ports']);
  if (ports.length === 0 && type !== 'ExternalName' && field(spec, 'clusterIP') !== HEADLESS) {
    findings.error(SPEC, 'a Service needs ports');
  }
  validatePorts(ports, findings);
  if (type === 'ExternalName' && isAbsent(field(spec, 'externalName'))) {
    findings.error(SPEC, 'a Service of type ExternalName needs an externalName');
  }
}

/** A later Kubernetes may have fields that are not listed above; what is close to one that is listed is a slip. */
function validateFieldNames(spec: JsonObject, findings: Findings): void {
  const unknown = Object.keys(spec).filter((name) => !FIELDS.includes(name));
  if (unknown.length > FIELDS.length) {
    findings.error(SPEC, `has ${unknown.length} fields that no Service has`);
    return;
  }
  for (const name of unknown) {
    const path = [...SPEC, name];
    if (nearest(name, FIELDS) === null) findings.warn(path, `unknown field ${quoted(name)} is ignored`);
    else findings.error(path, unknownField(name, FIELDS));
  }
}

function validateAddresses(spec: JsonObject, findings: Findings): void {
  const single = field(spec, 'clusterIP');
  // Kubernetes writes the empty string for one that it is to choose.
  if (single !== '') validateAddress(findings.string(single, [...SPEC, 'clusterIP']), [...SPEC, 'clusterIP'], findings);
  for (const { text, path } of findings.strings(field(spec, 'clusterIPs'), [...SPEC, 'clusterIPs'], 2)) {
    validateAddress(text, path, findings);
  }
}

function validateAddress(text: string | null, path: Path, findings: Findings): void {
  if (text === null || text === HEADLESS || parseIp(text) !== null) return;
  findings.error(path, `${quoted(text)} is neither an IP address nor ${HEADLESS}`);
}

function validatePorts(ports: readonly JsonValue[], findings: Findings): void {
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (const [index, item] of ports.entries()) {
    const path = [...SPEC, 'ports', index];
    const port = findings.object(item, path, PORT_FIELDS);
    if (port === null) {
      if (item === null) findings.error(path, 'a port must not be null');
      continue;
    }
    const name = findings.string(field(port, 'name'), [...path, 'name']);
    if (name === null && ports.length > 1) findings.error(path, 'every port of a Service with several needs a name');
    if (name !== null && !isDnsLabel(name))
      findings.error([...path, 'name'], `${quoted(name)} must be of lower-case letters, digits and "-"`);
    if (name !== null && names.has(name)) findings.error([...path, 'name'], `there are two ports called ${name}`);
    if (name !== null) names.add(name);
    const protocol = findings.oneOf(field(port, 'protocol'), [...path, 'protocol'], PROTOCOLS) ?? 'TCP';
    const number = findings.integer(field(port, 'port'), [...path, 'port'], 1, 65_535);
    if (isAbsent(field(port, 'port'))) findings.error(path, 'a port needs a number: port');
    if (number !== null && numbers.has(`${protocol} ${number}`))
      findings.error([...path, 'port'], `there are two ports ${number}`);
    numbers.add(`${protocol} ${number}`);
    validateTargetPort(field(port, 'targetPort'), [...path, 'targetPort'], findings);
    findings.string(field(port, 'appProtocol'), [...path, 'appProtocol']);
    findings.integer(field(port, 'nodePort'), [...path, 'nodePort'], 0, 65_535);
  }
}

function validateTargetPort(value: JsonValue | undefined, path: Path, findings: Findings): void {
  if (typeof value === 'number') findings.integer(value, path, 1, 65_535);
  else if (!isAbsent(value) && !(typeof value === 'string' && isPortName(value))) {
    findings.error(
      path,
      'targetPort must be a port number from 1 to 65535 or the name of a port, at most 15 characters with a letter',
    );
  }
}
