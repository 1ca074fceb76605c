import { parseIp } from '../ip.ts';
import { field } from '../json.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject } from '../types.ts';
import type { Findings } from './findings.ts';
import { isDnsLabel, isDnsSubdomain } from './names.ts';

const SPEC = ['spec'];
const FIELDS = ['address', 'ports', 'labels', 'network', 'locality', 'weight', 'serviceAccount'];
const MAX_WEIGHT = 4_294_967_295;

export function validateWorkloadEntry(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), SPEC, FIELDS) ?? {};
  const address = findings.requiredString(
    field(spec, 'address'),
    [...SPEC, 'address'],
    'a WorkloadEntry needs an address',
  );
  if (address !== null && parseIp(address) === null) {
    findings.error(
      [...SPEC, 'address'],
      `${quoted(address)} is not an IP address; host names and sockets are not resolved`,
    );
  }
  for (const [name, port] of Object.entries(findings.object(field(spec, 'ports'), [...SPEC, 'ports']) ?? {})) {
    const path = [...SPEC, 'ports', name];
    if (!isDnsLabel(name)) findings.error(path, `${quoted(name)} is not the name of a port`);
    if (port === null) findings.error(path, `${name} must be a whole number from 1 to 65535`);
    findings.integer(port, path, 1, 65_535);
  }
  findings.stringMap(field(spec, 'labels'), [...SPEC, 'labels']);
  for (const name of ['network', 'locality']) findings.string(field(spec, name), [...SPEC, name]);
  findings.integer(field(spec, 'weight'), [...SPEC, 'weight'], 0, MAX_WEIGHT);
  const account = findings.string(field(spec, 'serviceAccount'), [...SPEC, 'serviceAccount']);
  if (account !== null && !isDnsSubdomain(account)) {
    findings.error([...SPEC, 'serviceAccount'], `${quoted(account)} is not the name of a service account`);
  }
}
