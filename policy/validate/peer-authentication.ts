import { field, isAbsent } from '../json.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import type { Findings, Path } from './findings.ts';
import { validatePolicyAnnotations } from './metadata.ts';
import { hasSelectorLabels, validateSelection } from './selector.ts';

const SPEC = ['spec'];
const MODES = ['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT'];
const PORT_KEY = /^[1-9][0-9]{0,4}$/;

export function validatePeerAuthentication(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), SPEC, ['selector', 'mtls', 'portLevelMtls']) ?? {};
  validatePolicyAnnotations(object, false, findings);
  validateSelection(spec, false, findings);
  validateMtls(field(spec, 'mtls'), [...SPEC, 'mtls'], findings);
  const path = [...SPEC, 'portLevelMtls'];
  const ports = findings.object(field(spec, 'portLevelMtls'), path);
  if (ports === null) return;
  if (Object.keys(ports).length === 0) findings.error(path, 'portLevelMtls must not be empty');
  if (!hasSelectorLabels(spec)) {
    findings.error(path, 'portLevelMtls needs a selector with labels: ports are those of a workload');
  }
  for (const [port, mtls] of Object.entries(ports)) {
    const at = [...path, port];
    if (!PORT_KEY.test(port) || Number(port) > 65_535) findings.error(at, `${quoted(port)} is not a port: 1 to 65535`);
    if (isAbsent(mtls)) findings.error(at, 'needs a mode; {} to inherit');
    validateMtls(mtls, at, findings);
  }
}

function validateMtls(value: JsonValue | undefined, path: Path, findings: Findings): void {
  const mtls = findings.object(value, path, ['mode']);
  findings.oneOf(field(mtls, 'mode'), [...path, 'mode'], MODES);
}
