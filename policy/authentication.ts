import { asObject, asString, field } from './json.ts';
import { nameOf, selectorLabels, selects, specOf } from './selection.ts';
import type { CompiledAuthentication, JsonObject, JsonValue, MtlsMode, PolicyMesh, PolicyWorkload } from './types.ts';

type Level = 'mesh' | 'namespace' | 'workload';

/**
 * The mutual-TLS mode of each port of a workload, from the PeerAuthentications among `objects` (Istio's semantics, section 2). At each level one
 * policy counts, the oldest; the narrower level overrides the wider, and `portLevelMtls` counts in the workload's policy only.
 */
export function compileAuthentication(
  objects: readonly JsonObject[],
  workload: PolicyWorkload,
  mesh: Pick<PolicyMesh, 'rootNamespace'>,
): CompiledAuthentication {
  const winners = new Map<Level, JsonObject>();
  for (const object of objects) {
    if (field(object, 'kind') !== 'PeerAuthentication' || !selects(object, workload, mesh.rootNamespace)) continue;
    const level = levelOf(object, mesh.rootNamespace);
    const current = winners.get(level);
    if (current === undefined || compareAge(object, current) < 0) winners.set(level, object);
  }
  let base: MtlsMode = 'PERMISSIVE';
  for (const level of ['mesh', 'namespace', 'workload'] as const) {
    base = readMode(field(specOf(winners.get(level) ?? {}), 'mtls')) ?? base;
  }
  const ports = readPorts(winners.get('workload'));
  return { mode: (port) => ports.get(port) ?? base, ports: [...ports.keys()].sort((a, b) => a - b) };
}

function levelOf(policy: JsonObject, rootNamespace: string): Level {
  if (selectorLabels(policy).size > 0) return 'workload';
  return nameOf(policy).namespace === rootNamespace ? 'mesh' : 'namespace';
}

function readPorts(policy: JsonObject | undefined): ReadonlyMap<number, MtlsMode> {
  const ports = new Map<number, MtlsMode>();
  for (const [port, mtls] of Object.entries(asObject(field(specOf(policy ?? {}), 'portLevelMtls')) ?? {})) {
    const mode = readMode(mtls);
    if (mode !== null) ports.set(Number(port), mode);
  }
  return ports;
}

/** Null where the mode is to be inherited: UNSET, or none. */
function readMode(mtls: JsonValue | undefined): MtlsMode | null {
  const mode = asString(field(asObject(mtls), 'mode'));
  return mode === 'STRICT' || mode === 'PERMISSIVE' || mode === 'DISABLE' ? mode : null;
}

/** Negative where `a` is the one that counts: older, else smaller by name, then by namespace. An object that tells no age is oldest, as in Go. */
function compareAge(a: JsonObject, b: JsonObject): number {
  return (
    createdAt(a) - createdAt(b) ||
    compareText(nameOf(a).name, nameOf(b).name) ||
    compareText(nameOf(a).namespace, nameOf(b).namespace)
  );
}

function createdAt(policy: JsonObject): number {
  const written = asString(field(asObject(field(policy, 'metadata')), 'creationTimestamp'));
  const time = written === null ? Number.NaN : Date.parse(written);
  return Number.isNaN(time) ? 0 : time;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
