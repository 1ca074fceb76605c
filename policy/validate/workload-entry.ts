import { parseIp } from '../ip.ts';
import { field } from '../json.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject } from '../types.ts';
import type { Findings, Path } from './findings.ts';
import { isDnsLabel, isDnsSubdomain } from './names.ts';

const SPEC = ['spec'];
const MAX_WEIGHT = 4_294_967_295;

/** The fields of a WorkloadEntry's spec, and of an endpoint of a ServiceEntry, which is the same message. */
export const WORKLOAD_ENTRY_FIELDS = ['address', 'ports', 'labels', 'network', 'locality', 'weight', 'serviceAccount'];

export function validateWorkloadEntry(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), SPEC, WORKLOAD_ENTRY_FIELDS) ?? {};
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
  validateWorkloadFields(spec, SPEC, findings);
}

/** All but the address. */
export function validateWorkloadFields(spec: JsonObject, at: Path, findings: Findings): void {
  for (const [name, port] of Object.entries(findings.object(field(spec, 'ports'), [...at, 'ports']) ?? {})) {
    const path = [...at, 'ports', name];
    if (!isDnsLabel(name)) findings.error(path, `${quoted(name)} is not the name of a port`);
    if (port === null) findings.error(path, `${name} must be a whole number from 1 to 65535`);
    findings.integer(port, path, 1, 65_535);
  }
  findings.stringMap(field(spec, 'labels'), [...at, 'labels']);
  for (const name of ['network', 'locality']) findings.string(field(spec, name), [...at, name]);
  findings.integer(field(spec, 'weight'), [...at, 'weight'], 0, MAX_WEIGHT);
  const account = findings.string(field(spec, 'serviceAccount'), [...at, 'serviceAccount']);
  if (account !== null && !isDnsSubdomain(account)) {
    findings.error([...at, 'serviceAccount'], `${quoted(account)} is not the name of a service account`);
  }
}
