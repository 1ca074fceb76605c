import { asObject, field, isAbsent, isList } from './json.ts';
import type { ManifestKind } from './kinds.ts';
import { annotationsOf, DRY_RUN_ANNOTATION, parseGoBool, specOf } from './selection.ts';
import type { JsonObject } from './types.ts';
import { validateObject } from './validate/validate.ts';

/** What is in force in the place of an object that is not admissible and never was while anybody looked. */
export interface StandIn {
  /** Null: nothing, the object is left out. */
  readonly object: JsonObject | null;
  /** What that means until the object is put right, for its author. */
  readonly consequence: string;
}

/**
 * A policy that cannot be read may have been meant to forbid anything: an AuthorizationPolicy becomes a DENY of everything, a PeerAuthentication
 * STRICT, for the workloads that its selector names, and for all that it could select where the selector itself cannot be read. What could not have
 * forbidden anything (a dry run, an audit, an object of another kind) is left out. Of a MeshConfig what can be read stays, setting by setting, of a Service what the mesh acts on: its callers would
 * reach it in plaintext where nobody knew it.
 *
 * @param object not admissible, with the metadata of an object that the API server stores
 */
export function standInFor(kind: ManifestKind, object: JsonObject): StandIn {
  if (kind === 'AuthorizationPolicy') return denyAll(object);
  if (kind === 'PeerAuthentication') return strict(object);
  if (kind === 'MeshConfig') return readableSettings(object);
  if (kind === 'Service') return knownFields(object);
  return { object: null, consequence: 'until it is put right it is left out' };
}

function denyAll(object: JsonObject): StandIn {
  if (onlyObserves(object))
    return { object: null, consequence: 'until it is put right it is left out; it enforces nothing' };
  const selection = selectionOf(object, 'AuthorizationPolicy');
  return {
    object: policy(object, { ...selection.spec, action: 'DENY', rules: [{}] }),
    consequence: `until it is put right, everything is denied for ${selection.whom}`,
  };
}

function strict(object: JsonObject): StandIn {
  const selection = selectionOf(object, 'PeerAuthentication');
  return {
    object: policy(object, { ...selection.spec, mtls: { mode: 'STRICT' } }),
    consequence: `until it is put right, mutual TLS is STRICT for ${selection.whom}`,
  };
}

/**
 * The settings that are admissible by themselves. Without the others those of the configuration file would count, which may allow more: what is said
 * of the default or of the root namespace and cannot be read becomes DENY, what is said of unknown destinations REGISTRY_ONLY.
 */
function readableSettings(object: JsonObject): StandIn {
  const spec = asObject(field(object, 'spec'));
  const isReadable = (setting: JsonObject): boolean =>
    validateObject(policy(object, setting)).every(({ severity }) => severity !== 'error');
  const readable = Object.entries(spec ?? {}).filter(([name, value]) => isReadable({ [name]: value }));
  const kept = Object.fromEntries(readable);
  const isLost = (name: string): boolean => !Object.hasOwn(kept, name) && !isAbsent(field(spec, name));
  const denies =
    (spec === null && !isAbsent(field(object, 'spec'))) || isLost('defaultAction') || isLost('rootNamespace');
  const closes = isLost('outboundTrafficPolicy');
  return {
    object: policy(object, {
      ...kept,
      ...(denies ? { defaultAction: 'DENY' } : {}),
      ...(closes ? { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } } : {}),
    }),
    consequence: `until it is put right, only its settings that are admissible count${denies ? ', and defaultAction is DENY' : ''}${closes ? ', and outboundTrafficPolicy is REGISTRY_ONLY' : ''}`,
  };
}

const SERVICE_FIELDS = ['clusterIP', 'clusterIPs', 'type', 'externalName', 'selector', 'ports'];
const SERVICE_PORT_FIELDS = ['name', 'port', 'targetPort', 'protocol', 'appProtocol'];

/** A later Kubernetes may have fields whose names are close to those that are known. */
function knownFields(object: JsonObject): StandIn {
  const spec = picked(specOf(object), SERVICE_FIELDS);
  const ports = field(spec, 'ports');
  const known = isList(ports) ? ports.map((port) => picked(asObject(port), SERVICE_PORT_FIELDS)) : ports;
  const standIn = { ...object, spec: { ...spec, ...(known === undefined ? {} : { ports: known }) } };
  if (validateObject(standIn).some(({ severity }) => severity === 'error'))
    return { object: null, consequence: 'until it is put right it is left out' };
  return { object: standIn, consequence: 'until it is put right, only the fields that the mesh acts on count' };
}

function picked(object: JsonObject | null, names: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(object ?? {}).filter(([name]) => names.includes(name)));
}

/** Whether it says plainly that it denies nothing. */
function onlyObserves(object: JsonObject): boolean {
  const dryRun = parseGoBool(field(annotationsOf(object), DRY_RUN_ANNOTATION)) === true;
  return dryRun || field(specOf(object), 'action') === 'AUDIT';
}

/** What the policy applies to, where that part of it is admissible by itself. */
function selectionOf(object: JsonObject, kind: ManifestKind): { readonly spec: JsonObject; readonly whom: string } {
  const spec = specOf(object);
  const given = ['selector', 'targetRef', 'targetRefs'].filter((name) => !isAbsent(field(spec, name)));
  const wide = { spec: {}, whom: 'every workload of its namespace (of the mesh, where that is the root namespace)' };
  const [name] = given;
  const value = name === undefined ? undefined : field(spec, name);
  if (name === undefined || isAbsent(value) || given.length > 1) return wide;
  const part = { [name]: value };
  const probe = policy(object, kind === 'AuthorizationPolicy' ? { ...part, action: 'DENY', rules: [{}] } : part);
  if (validateObject(probe).some(({ severity }) => severity === 'error')) return wide;
  return { spec: part, whom: name === 'selector' ? 'the workloads that it selects' : 'what it targets' };
}

/** With what names the object, and nothing else that may be wrong. */
function policy(object: JsonObject, spec: JsonObject): JsonObject {
  const metadata = asObject(field(object, 'metadata'));
  const kept = ['name', 'namespace', 'uid', 'creationTimestamp'].flatMap((name) => {
    const value = field(metadata, name);
    return typeof value === 'string' ? [[name, value]] : [];
  });
  return {
    apiVersion: field(object, 'apiVersion') ?? null,
    kind: field(object, 'kind') ?? null,
    metadata: Object.fromEntries(kept),
    spec,
  };
}
