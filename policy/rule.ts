import { PosternError } from '../mesh/errors.ts';
import { type Attribute, OPERATION_FIELDS, parseWhenKey, SOURCE_FIELDS } from './attributes.ts';
import { asObject, asString, field, isAbsent, isList } from './json.ts';
import { annotationsOf, DRY_RUN_ANNOTATION, nameOf, parseGoBool, specOf } from './selection.ts';
import type { JsonObject, JsonValue } from './types.ts';

/**
 * An AuthorizationPolicy as conditions: the form that every protocol is compiled from and that explanations read. It still holds
 * what its author wrote, for every protocol; what a condition on an HTTP attribute means on TCP is decided where TCP rules are made.
 */
export interface Policy {
  readonly namespace: string;
  /** `<namespace>/<name>`. */
  readonly name: string;
  readonly action: PolicyAction;
  /** Who decides what a CUSTOM policy matches; null for other actions. */
  readonly provider: string | null;
  /** Observed, never enforced. */
  readonly dryRun: boolean;
  readonly rules: readonly Rule[];
}

export type PolicyAction = 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM';

/** Holds where one of `from`, one of `to` and all of `when` hold; an empty list asks nothing. */
export interface Rule {
  readonly index: number;
  /** Istio's name of the rule; the smallest of those that match is the one reported. */
  readonly id: string;
  readonly from: readonly Clause[];
  readonly to: readonly Clause[];
  readonly when: Clause;
}

/** Conditions that must hold together. */
export type Clause = readonly Condition[];

/** Holds where one of the values matches, or where none does if negated. */
export interface Condition {
  /** Where it was written, below the rule: `from[0].source.notPrincipals`. */
  readonly path: string;
  readonly attribute: Attribute;
  /** What stood in the brackets of a `when` key. */
  readonly name: string | null;
  readonly negated: boolean;
  readonly values: readonly string[];
}

const ACTIONS: readonly PolicyAction[] = ['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'];

/**
 * Reads an AuthorizationPolicy that `validateObject` has found free of errors.
 * @throws PosternError ERR_POLICY_MALFORMED where it is not: skipping the part that makes no sense could open what it was to close.
 */
export function readPolicy(object: JsonObject): Policy {
  const { namespace, name } = nameOf(object);
  const reader = new PolicyReader(namespace, name);
  const spec = specOf(object);
  const action = reader.action(field(spec, 'action'));
  return {
    namespace,
    name: `${namespace}/${name}`,
    action,
    provider: action === 'CUSTOM' ? asString(field(asObject(field(spec, 'provider')), 'name')) : null,
    dryRun:
      (action === 'ALLOW' || action === 'DENY') &&
      parseGoBool(field(annotationsOf(object), DRY_RUN_ANNOTATION)) === true,
    rules: reader.list(field(spec, 'rules'), 'rules').map((rule, index) => reader.rule(rule, index)),
  };
}

class PolicyReader {
  readonly #namespace: string;
  readonly #name: string;

  constructor(namespace: string, name: string) {
    this.#namespace = namespace;
    this.#name = name;
  }

  action(value: JsonValue | undefined): PolicyAction {
    if (isAbsent(value)) return 'ALLOW';
    return ACTIONS.find((action) => action === value) ?? this.#malformed('action');
  }

  rule(value: JsonValue, index: number): Rule {
    const at = `rules[${index}]`;
    const rule = this.#object(value, at);
    return {
      index,
      id: `ns[${this.#namespace}]-policy[${this.#name}]-rule[${index}]`,
      from: this.list(field(rule, 'from'), `${at}.from`).map((item, at) =>
        this.#clause(item, `from[${at}]`, 'source', SOURCE_FIELDS),
      ),
      to: this.list(field(rule, 'to'), `${at}.to`).map((item, at) =>
        this.#clause(item, `to[${at}]`, 'operation', OPERATION_FIELDS),
      ),
      when: this.list(field(rule, 'when'), `${at}.when`).flatMap((item, at) => this.#when(item, `when[${at}]`)),
    };
  }

  list(value: JsonValue | undefined, at: string): readonly JsonValue[] {
    if (isAbsent(value)) return [];
    return isList(value) ? value : this.#malformed(at);
  }

  #clause(item: JsonValue, at: string, part: string, fields: typeof SOURCE_FIELDS): Clause {
    const clause = this.#object(field(this.#object(item, at), part), `${at}.${part}`);
    return Object.entries(clause).flatMap(([name, written]) => {
      const path = `${at}.${part}.${name}`;
      const meaning = fields.get(name) ?? this.#malformed(path);
      return this.#condition(written, { path, name: null, ...meaning });
    });
  }

  #when(item: JsonValue, at: string): Clause {
    const condition = this.#object(item, at);
    const key = asString(field(condition, 'key')) ?? this.#malformed(`${at}.key`);
    const meaning = parseWhenKey(key) ?? this.#malformed(`${at}.key`);
    return [
      ...this.#condition(field(condition, 'values'), { path: `${at}.values (${key})`, negated: false, ...meaning }),
      ...this.#condition(field(condition, 'notValues'), {
        path: `${at}.notValues (${key})`,
        negated: true,
        ...meaning,
      }),
    ];
  }

  /** An empty list is the same as none: Istio's protobuf form cannot tell them apart. */
  #condition(written: JsonValue | undefined, rest: Omit<Condition, 'values'>): Clause {
    const values = this.list(written, rest.path).map((value) => asString(value) ?? this.#malformed(rest.path));
    return values.length === 0 ? [] : [{ ...rest, values }];
  }

  #object(value: JsonValue | undefined, at: string): JsonObject {
    return asObject(value) ?? this.#malformed(at);
  }

  #malformed(at: string): never {
    throw new PosternError(
      'ERR_POLICY_MALFORMED',
      `AuthorizationPolicy ${this.#namespace}/${this.#name}: spec.${at} is not what it must be; validate it before compiling`,
    );
  }
}
