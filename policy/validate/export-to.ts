import { field } from '../json.ts';
import { quoted } from '../quoted.ts';
import { nameOf } from '../selection.ts';
import type { JsonObject } from '../types.ts';
import type { Findings } from './findings.ts';
import { isDnsLabel } from './names.ts';

const PATH = ['spec', 'exportTo'];
const MAX_TARGETS = 256;
const EVERYONE = '*';
const NOBODY = '~';
const OWN = '.';

/** Istio's rules of `spec.exportTo`: namespaces, `.` for the own one, or alone `*` (everyone) or `~` (nobody). */
export function validateExportTo(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), ['spec']);
  const targets = findings.strings(field(spec, 'exportTo'), PATH, MAX_TARGETS);
  const seen = new Set<string>();
  for (const { text, path } of targets) {
    if (![EVERYONE, NOBODY, OWN].includes(text) && !isDnsLabel(text)) {
      findings.error(path, `${quoted(text)} is neither a namespace nor one of ".", "*", "~"`);
    }
    const namespace = text === OWN ? nameOf(object).namespace : text;
    if (seen.has(namespace)) findings.error(path, `${quoted(text)} stands in exportTo already`);
    seen.add(namespace);
  }
  for (const alone of [EVERYONE, NOBODY]) {
    if (seen.has(alone) && seen.size > 1) findings.error(PATH, `"${alone}" must be the only one in exportTo`);
  }
}
