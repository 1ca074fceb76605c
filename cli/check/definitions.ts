import { TYPES } from '../../kubernetes/api/resource-types.ts';
import { objectsIn } from '../../kubernetes/injection/pod.ts';
import { isCompatibleDefinition } from '../../kubernetes/install/phases.ts';
import { isTrue } from '../../kubernetes/install/wait.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import { KINDS } from '../../policy/kinds.ts';
import type { JsonObject } from '../../policy/types.ts';
import { check, type Facts, listed, type Report } from './facts.ts';
import { nameOf } from './pods.ts';

export const DEFINITION_CHECKS = [
  check('definitions', 'after', checkDefinitions),
  check('definitions', 'before', checkForeignDefinitions),
];

/** Every kind of custom resource that the mesh reads. */
export const MESH_KINDS = [
  'AuthorizationPolicy',
  'PeerAuthentication',
  'RequestAuthentication',
  'WorkloadEntry',
  'ServiceEntry',
  'MeshConfig',
  'Revocation',
] as const;

function checkDefinitions(facts: Facts, report: Report): void {
  const definitions = report.need(facts.definitions, 'the definitions of kinds');
  if (definitions === null) return;
  const byName = new Map(definitions.map((definition) => [nameOf(definition), definition]));
  const missing: string[] = [];
  for (const kind of MESH_KINDS) {
    const name = definitionName(kind);
    const definition = byName.get(name);
    if (definition === undefined) missing.push(name);
    else checkOne(kind, definition, report);
  }
  if (missing.length > 0) {
    report.error(`kinds are not defined: ${listed(missing)}`, 'run postern install: it adds what is missing');
  } else if (report.findings.length === 0) report.ok('all kinds are defined and served');
}

function checkOne(kind: (typeof MESH_KINDS)[number], definition: JsonObject, report: Report): void {
  const versions: readonly string[] = KINDS[kind].map((one) => one.slice(one.indexOf('/') + 1));
  const served = servedVersions(definition);
  if (!served.some((version) => versions.includes(version))) {
    const message = `${nameOf(definition)} is served as ${listed(served) || 'nothing'}, of which Postern reads none`;
    report.error(message, `serve one of ${versions.join(', ')}: bring the definition up to date`);
  } else if (!isTrue(definition, 'Established')) {
    report.error(`${nameOf(definition)} is not established`, `see kubectl describe crd ${nameOf(definition)}`);
  }
}

/** Before an installation: what of Istio's the cluster has, and whether it will do. */
function checkForeignDefinitions(facts: Facts, report: Report): void {
  const definitions = report.need(facts.definitions, 'the definitions of kinds');
  if (definitions === null) return;
  const names = new Map(MESH_KINDS.map((kind) => [definitionName(kind), kind] as const));
  const foreign = definitions.filter((one) => names.has(nameOf(one)) && !isOwn(one));
  for (const definition of foreign) {
    const kind = names.get(nameOf(definition));
    if (kind !== undefined) checkOne(kind, definition, report);
  }
  if (report.findings.length > 0) return;
  report.ok(
    foreign.length === 0
      ? 'no kind is defined by somebody else'
      : `the cluster's own definitions will be kept: ${listed(foreign.map(nameOf))}`,
  );
}

function isOwn(definition: JsonObject): boolean {
  return isCompatibleDefinition(definition) || nameOf(definition).endsWith('.postern.dev');
}

function definitionName(kind: (typeof MESH_KINDS)[number]): string {
  const { plural, group } = TYPES[kind];
  return `${plural}.${group}`;
}

function servedVersions(definition: JsonObject): readonly string[] {
  return objectsIn(field(asObject(field(definition, 'spec')), 'versions'))
    .filter((version) => field(version, 'served') === true)
    .map((version) => asString(field(version, 'name')) ?? '');
}
