import { messageOf } from '../../mesh/errors.ts';
import type { MeshConfigResource } from '../../mesh/resources.ts';
import {
  type CompiledPolicies,
  compilePolicies,
  type Decision,
  type DryRunVerdict,
  type JsonObject,
  type JsonValue,
  normalizePath,
  type PolicyWorkload,
  type RequestAttributes,
  type TraceStep,
} from '../../policy/index.ts';
import { isObject } from '../mesh-file.ts';
import { MalformedLine, type Question, readQuestion } from './request-line.ts';

/** What `authz eval` answers to a line, in the order of its fields. */
export interface Answer {
  readonly id: JsonValue;
  readonly decision: 'allow' | 'deny';
  readonly policy: string | null;
  readonly rule: number | null;
  /** Normalised; null on TCP, and where it could not be normalised. */
  readonly path: string | null;
  readonly status: 403 | 400 | null;
  readonly audit: readonly string[];
  readonly dryRun: { readonly allow: DryRunVerdict; readonly deny: DryRunVerdict };
  readonly trace?: readonly TraceStep[];
}

/** What it answers to a line that is no question. */
export interface LineError {
  readonly id: JsonValue;
  readonly error: string;
}

type Explanation = { readonly decision: Decision; readonly trace: readonly TraceStep[] };

/** Workloads whose policies are kept compiled. */
const MAX_COMPILED = 1_000;

/** Answers lines by the engine that the sidecar runs, path normalisation included. */
export class Evaluator {
  readonly #objects: readonly JsonObject[];
  readonly #mesh: MeshConfigResource;
  readonly #explain: boolean;
  readonly #compiled = new Map<string, CompiledPolicies>();

  constructor(objects: readonly JsonObject[], mesh: MeshConfigResource, explain: boolean) {
    this.#objects = objects;
    this.#mesh = mesh;
    this.#explain = explain;
  }

  /** @param number of the line, from 1. */
  answer(line: string, number: number): Answer | LineError {
    let id: JsonValue = null;
    try {
      const value = parseLine(line);
      id = readId(value.id ?? null);
      return this.#answer(id, readQuestion(value));
    } catch (error) {
      if (error instanceof MalformedLine) return { id, error: `line ${number}: ${error.message}` };
      throw error;
    }
  }

  #answer(id: JsonValue, { workload, connection, request, claims }: Question): Answer {
    const policies = this.#policiesOf(workload);
    if (request === null) {
      const explanation = this.#explain
        ? policies.explain(connection)
        : { decision: policies.decide(connection), trace: [] };
      return this.#format(id, explanation, null, null);
    }
    const target = normalizePath(request.target, this.#mesh.pathNormalization);
    if (target === null) return this.#refused(id);
    const { method, host, headers } = request;
    const attributes: RequestAttributes = { method, ...target, host, header: (name) => headers.get(name) ?? [] };
    const explanation = this.#explain
      ? policies.explainRequest(connection, attributes, claims)
      : { decision: policies.forConnection(connection).decide(attributes, claims), trace: [] };
    return this.#format(id, explanation, target.path, explanation.decision.allowed ? null : 403);
  }

  #format(id: JsonValue, { decision, trace }: Explanation, path: string | null, status: 403 | null): Answer {
    const { allowed, policy, rule, audit, dryRun } = decision;
    return {
      id,
      decision: allowed ? 'allow' : 'deny',
      policy,
      rule,
      path: path === null ? null : readable(path),
      status,
      audit,
      dryRun: { allow: dryRun.allow, deny: dryRun.deny },
      ...(this.#explain ? { trace: trace.map(readableStep) } : {}),
    };
  }

  /** A path without one meaning is refused before any policy is asked. */
  #refused(id: JsonValue): Answer {
    return {
      id,
      decision: 'deny',
      policy: null,
      rule: null,
      path: null,
      status: 400,
      audit: [],
      dryRun: { allow: null, deny: null },
      ...(this.#explain ? { trace: [] } : {}),
    };
  }

  #policiesOf({ namespace, labels }: PolicyWorkload): CompiledPolicies {
    const key = JSON.stringify([namespace, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
    const known = this.#compiled.get(key);
    if (known !== undefined) return known;
    if (this.#compiled.size >= MAX_COMPILED) this.#compiled.clear();
    const compiled = compilePolicies(this.#objects, { namespace, labels }, this.#mesh);
    this.#compiled.set(key, compiled);
    return compiled;
  }
}

/** Deeper than any name of a request; without a bound the answer could not be written. */
const MAX_ID_DEPTH = 8;

/** Whatever names the question, to be repeated in the answer. */
function readId(id: JsonValue): JsonValue {
  if (!isWithin(id, MAX_ID_DEPTH)) throw new MalformedLine(`id is nested over ${MAX_ID_DEPTH} levels deep`);
  return id;
}

/** Whether at most `depth` lists and objects of the value stand in one another. */
function isWithin(value: JsonValue, depth: number): boolean {
  if (value === null || typeof value !== 'object') return true;
  return depth > 0 && Object.values(value).every((part: JsonValue) => isWithin(part, depth - 1));
}

function parseLine(line: string): JsonObject {
  let value: JsonValue;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new MalformedLine(`is not JSON: ${messageOf(error)}`);
  }
  if (!isObject(value)) throw new MalformedLine('must be a JSON object');
  return value;
}

/** Bytes of a head as text again. */
function readable(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

function readableStep(step: TraceStep): TraceStep {
  const { failed } = step;
  return failed === null ? step : { ...step, failed: { ...failed, found: readableFound(failed.found) } };
}

/** Found values are bytes of a head or texts of a token; what is no such byte is of a token. */
function readableFound(found: string): string {
  for (let at = 0; at < found.length; at++) if (found.charCodeAt(at) > 0xff) return found;
  const text = readable(found);
  return text.includes('\ufffd') ? found : text;
}
