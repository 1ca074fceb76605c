import { type Attribute, isTcpAttribute, OPERATION_FIELDS, parseWhenKey, SOURCE_FIELDS } from '../attributes.ts';
import { asObject, field, isAbsent, isList } from '../json.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import { ENVOY_ONLY, unknownKey, validateValue } from './condition-values.ts';
import type { Findings, Path } from './findings.ts';
import { validatePolicyAnnotations } from './metadata.ts';
import { validateSelection } from './selector.ts';

const SPEC = ['spec'];
const FIELDS = ['selector', 'targetRef', 'targetRefs', 'action', 'provider', 'rules'];
const ACTIONS = ['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'];
const MAX_RULES = 512;
const MAX_SOURCES = 512;
const MAX_SERVICE_ACCOUNTS = 16;

/** Attributes that are known only after the external authorizer has been asked, or that it must find out itself. */
const NOT_FOR_CUSTOM: readonly Attribute[] = [
  'source.namespace',
  'source.serviceAccount',
  'source.trustDomain',
  'source.principal',
  'request.auth.principal',
  'request.auth.audiences',
  'request.auth.presenter',
  'request.auth.claims',
];

/** Istio's admission rules of AuthorizationPolicy, and what Postern adds: unknown fields are errors. */
export function validateAuthorizationPolicy(object: JsonObject, findings: Findings): void {
  const spec = findings.object(field(object, 'spec'), SPEC, FIELDS) ?? {};
  validateSelection(spec, true, findings);
  const written = field(spec, 'action');
  const action = isAbsent(written) ? 'ALLOW' : findings.oneOf(written, [...SPEC, 'action'], ACTIONS);
  const mayDryRun = action === null || action === 'ALLOW' || action === 'DENY';
  validatePolicyAnnotations(object, mayDryRun, findings);
  validateProvider(spec, action, findings);
  const rules = findings.items(field(spec, 'rules'), [...SPEC, 'rules'], MAX_RULES);
  if (rules.length === 0 && (action === 'DENY' || action === 'CUSTOM')) {
    findings.error(SPEC, `a policy with action ${action} needs rules: without any it has no effect`);
  }
  for (const [index, rule] of rules.entries())
    new RuleValidation(action, findings).rule(rule, [...SPEC, 'rules', index]);
}

function validateProvider(spec: JsonObject, action: string | null, findings: Findings): void {
  const path = [...SPEC, 'provider'];
  const written = field(spec, 'provider');
  if (action !== 'CUSTOM') {
    if (!isAbsent(written)) findings.error(path, 'a provider is for action CUSTOM only');
    return;
  }
  const provider = findings.object(written, path, ['name']);
  const name = findings.requiredString(field(provider, 'name'), [...path, 'name'], 'action CUSTOM needs provider.name');
  if (name !== null) {
    findings.warn(
      path,
      'extension providers are not asked yet, known to the mesh or not: what the rules match will be denied',
    );
  }
}

/** One rule, and what was seen on the way through it. */
class RuleValidation {
  readonly #action: string | null;
  readonly #findings: Findings;
  #asksHttp = false;
  #asksPort = false;

  constructor(action: string | null, findings: Findings) {
    this.#action = action;
    this.#findings = findings;
  }

  rule(value: JsonValue, path: Path): void {
    const rule = this.#present(value, path, 'a rule', ['from', 'to', 'when']);
    if (rule === null) return;
    const items = (part: string, most?: number): [number, JsonValue][] => [
      ...this.#findings.items(field(rule, part), [...path, part], most).entries(),
    ];
    for (const [index, from] of items('from', MAX_SOURCES)) this.#source(from, [...path, 'from', index]);
    for (const [index, to] of items('to')) this.#operation(to, [...path, 'to', index]);
    for (const [index, when] of items('when')) this.#when(when, [...path, 'when', index]);
    if (this.#action === 'DENY' && this.#asksHttp && !this.#asksPort) {
      this.#findings.warn(
        path,
        'asks for attributes of HTTP and no port: it will deny all traffic to TCP ports under its scope',
      );
    }
  }

  #source(item: JsonValue, path: Path): void {
    const from = this.#present(item, path, 'an item of from', ['source']);
    if (from === null) return;
    const at = [...path, 'source'];
    const source = this.#clause(field(from, 'source'), at, SOURCE_FIELDS);
    const has = (names: readonly string[]): boolean => names.some((name) => isFilled(field(source, name)));
    const accounts = ['serviceAccounts', 'notServiceAccounts'];
    if (has(accounts) && has(['principals', 'notPrincipals', 'namespaces', 'notNamespaces'])) {
      this.#findings.error(at, 'serviceAccounts cannot stand beside principals or namespaces in one source');
    }
  }

  #operation(item: JsonValue, path: Path): void {
    const to = this.#present(item, path, 'an item of to', ['operation']);
    if (to !== null) this.#clause(field(to, 'operation'), [...path, 'operation'], OPERATION_FIELDS);
  }

  /** A source or an operation. */
  #clause(value: JsonValue | undefined, path: Path, fields: typeof SOURCE_FIELDS): JsonObject | null {
    const part = String(path.at(-1));
    const clause = this.#present(value, path, part, fields.keys());
    if (clause === null) return null;
    if (!Object.values(clause).some(isFilled)) {
      this.#findings.error(path, `${part} must have at least one field that is not empty`);
    }
    for (const [name, values] of Object.entries(clause)) {
      const meaning = fields.get(name);
      if (meaning === undefined) continue;
      const at = [...path, name];
      if (isList(values) && values.length === 0) {
        this.#findings.warn(at, `${name} is empty, which is the same as absent: it restricts nothing`);
      }
      this.#values(meaning.attribute, values, at, true);
      if (isFilled(values)) this.#saw(meaning.attribute, at);
    }
    return clause;
  }

  #when(item: JsonValue, path: Path): void {
    const condition = this.#present(item, path, 'an item of when', ['key', 'values', 'notValues']);
    if (condition === null) return;
    if (!isFilled(field(condition, 'values')) && !isFilled(field(condition, 'notValues'))) {
      this.#findings.error(path, 'a condition needs values or notValues');
    }
    const keyPath = [...path, 'key'];
    const key = this.#findings.requiredString(field(condition, 'key'), keyPath, 'a condition needs a key');
    const meaning = key === null ? null : parseWhenKey(key);
    if (key !== null && meaning === null) this.#findings.error(keyPath, unknownKey(key));
    if (meaning === null) return;
    if (meaning.attribute === 'experimental.envoy.filters') this.#findings.error(keyPath, ENVOY_ONLY);
    this.#saw(meaning.attribute, keyPath);
    for (const name of ['values', 'notValues']) {
      this.#values(meaning.attribute, field(condition, name), [...path, name], false);
    }
  }

  #values(attribute: Attribute, values: JsonValue | undefined, path: Path, isField: boolean): void {
    const most = isField && attribute === 'source.serviceAccount' ? MAX_SERVICE_ACCOUNTS : undefined;
    for (const { text, path: at } of this.#findings.strings(values, path, most)) {
      validateValue(attribute, text, at, isField, this.#findings);
    }
  }

  #saw(attribute: Attribute, path: Path): void {
    if (!isTcpAttribute(attribute)) this.#asksHttp = true;
    if (attribute === 'destination.port') this.#asksPort = true;
    if (this.#action === 'CUSTOM' && NOT_FOR_CUSTOM.includes(attribute)) {
      this.#findings.error(path, `${String(path.at(-1))} cannot be used with action CUSTOM`);
    }
  }

  /** An object that must be there. */
  #present(value: JsonValue | undefined, path: Path, what: string, fields: Iterable<string>): JsonObject | null {
    if (isAbsent(value)) this.#findings.error(path, `${what} must be given, and not be null`);
    return this.#findings.object(value, path, fields);
  }
}

/** A list with something in it; of any other type, for its own error is reported elsewhere. */
function isFilled(value: JsonValue | undefined): boolean {
  if (isAbsent(value)) return false;
  return isList(value) ? value.length > 0 : asObject(value) !== null || value !== '';
}
