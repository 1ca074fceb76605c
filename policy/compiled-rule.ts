import { type CompileContext, type CompiledCondition, compileCondition, existsOn, type Protocol } from './condition.ts';
import type { CustomOutcome } from './custom.ts';
import type { Facts } from './facts.ts';
import type { Clause, Condition, Policy, PolicyAction, Rule } from './rule.ts';
import type { Decision, TraceStep } from './types.ts';

export type CompiledClause = readonly CompiledCondition[];

/** A rule as it stands on one protocol. */
export interface CompiledRule {
  /** What the smallest of is reported where several rules match. */
  readonly id: string;
  /** `<namespace>/<name>` of its policy. */
  readonly policy: string;
  readonly index: number;
  /** The decision that it makes where nothing is audited or on trial. */
  readonly verdict: Decision;
  readonly from: readonly CompiledClause[];
  readonly to: readonly CompiledClause[];
  readonly when: CompiledClause;
}

/** `rule` is null where the rule does not exist on the protocol; `note` says what became of it. */
export interface Lowering {
  readonly rule: CompiledRule | null;
  readonly note: string | null;
}

export interface LoweringContext {
  readonly protocol: Protocol;
  readonly trustDomains: readonly string[];
  /** What becomes of what CUSTOM policies match. */
  readonly custom: CustomOutcome;
}

export const NO_DRY_RUN: Decision['dryRun'] = { allow: null, deny: null, allowPolicy: null, denyPolicy: null };
export const NO_NAMES: readonly string[] = [];

/** A CUSTOM policy needs an authorizer that the mesh knows; without one, what it matches is denied. */
const BAD_CUSTOM_SUFFIX = '-deny-due-to-bad-CUSTOM-action';

/**
 * What a rule means on a protocol (Istio's semantics, 1.9). Where a condition cannot be asked (an attribute of HTTP on TCP, a value that is no
 * address, port or path template), an ALLOW rule goes as a whole and any other rule loses the condition: both only ever refuse more.
 */
export function lowerRule(policy: Policy, rule: Rule, context: LoweringContext): Lowering {
  const { protocol, trustDomains, custom } = context;
  const isCustom = policy.action === 'CUSTOM';
  if (isCustom && custom.kind === 'ignore') return { rule: null, note: `CUSTOM: ${custom.note}` };
  const lowering = new RuleLowering({ protocol, policyNamespace: policy.namespace, trustDomains });
  const from = lowering.alternatives(rule.from);
  const to = lowering.alternatives(rule.to);
  const when = lowering.clause(rule.when);
  const notes = lowering.notes();
  if (notes !== null && policy.action === 'ALLOW') {
    return { rule: null, note: `never allows${protocol === 'tcp' ? ' TCP' : ''}: ${notes}` };
  }
  const isBadCustom = isCustom && custom.kind === 'deny';
  return {
    rule: {
      id: isBadCustom ? rule.id + BAD_CUSTOM_SUFFIX : rule.id,
      policy: policy.name,
      index: rule.index,
      verdict: verdictOf(policy.name, rule.index, policy.action, custom),
      from,
      to,
      when,
    },
    note:
      [...(isCustom ? [`CUSTOM: ${custom.note}`] : []), ...(notes === null ? [] : [`left out: ${notes}`])].join('; ') ||
      null,
  };
}

function verdictOf(policy: string, rule: number, action: PolicyAction, custom: CustomOutcome): Decision {
  const asks = action === 'CUSTOM' && custom.kind === 'ask';
  return {
    allowed: action === 'ALLOW',
    policy,
    rule,
    reason: action === 'ALLOW' ? 'allow-policy' : asks ? 'custom-policy' : 'deny-policy',
    provider: asks ? custom.provider : null,
    audit: NO_NAMES,
    dryRun: NO_DRY_RUN,
  };
}

class RuleLowering {
  readonly #context: CompileContext;
  readonly #http: string[] = [];
  readonly #invalid: string[] = [];

  constructor(context: CompileContext) {
    this.#context = context;
  }

  /** One alternative that asks nothing makes the others idle. */
  alternatives(clauses: readonly Clause[]): readonly CompiledClause[] {
    const lowered = clauses.map((clause) => this.clause(clause));
    return lowered.some((clause) => clause.length === 0) ? [] : lowered;
  }

  clause(clause: Clause): CompiledClause {
    return clause.flatMap((condition) => this.#condition(condition));
  }

  #condition(condition: Condition): readonly CompiledCondition[] {
    if (!existsOn(condition.attribute, this.#context.protocol)) this.#http.push(condition.path);
    const compiled = compileCondition(condition, this.#context);
    if (compiled.invalid.length > 0) this.#invalid.push(`${condition.path} ${compiled.invalid.join(', ')}`);
    return compiled.condition === null ? [] : [compiled.condition];
  }

  /** Null where every condition was taken as it is. */
  notes(): string | null {
    const notes = [
      ...(this.#http.length > 0 ? [`attributes of HTTP (${summary(this.#http)})`] : []),
      ...(this.#invalid.length > 0 ? [`values that cannot be read (${summary(this.#invalid)})`] : []),
    ];
    return notes.length === 0 ? null : notes.join(' and ');
  }
}

export function ruleMatches(rule: CompiledRule, facts: Facts): boolean {
  return anyHolds(rule.from, facts) && anyHolds(rule.to, facts) && clauseHolds(rule.when, facts);
}

function anyHolds(clauses: readonly CompiledClause[], facts: Facts): boolean {
  if (clauses.length === 0) return true;
  for (const clause of clauses) if (clauseHolds(clause, facts)) return true;
  return false;
}

function clauseHolds(clause: CompiledClause, facts: Facts): boolean {
  for (const condition of clause) if (!condition.holds(facts)) return false;
  return true;
}

/** Why a rule does not match, null where it does: the first part of it that fails. */
export function firstFailure(rule: CompiledRule, facts: Facts): TraceStep['failed'] {
  return (
    failureOfAny('from', rule.from, facts) ?? failureOfAny('to', rule.to, facts) ?? failureOfClause(rule.when, facts)
  );
}

/** Of one alternative, its condition; of several, all of theirs, for the first alone would mislead. */
function failureOfAny(part: string, clauses: readonly CompiledClause[], facts: Facts): TraceStep['failed'] {
  if (anyHolds(clauses, facts)) return null;
  const failures = clauses.flatMap((clause) => failureOfClause(clause, facts) ?? []);
  const [first] = failures;
  if (first === undefined || failures.length === 1) return first ?? null;
  return {
    condition: part,
    found: [...new Set(failures.map(({ found }) => found))].join(', '),
    wanted: summary(
      failures.map(({ condition, wanted }) => `${condition}: ${wanted}`),
      ' or ',
    ),
  };
}

function failureOfClause(clause: CompiledClause, facts: Facts): TraceStep['failed'] {
  const failed = clause.find((condition) => !condition.holds(facts));
  if (failed === undefined) return null;
  const { path, negated, values } = failed.source;
  return { condition: path, found: failed.found(facts), wanted: `${negated ? 'none of ' : ''}${summary(values)}` };
}

const SUMMARY_ITEMS = 8;

/** An explanation is a line of a log, whatever the size of the policy. */
function summary(items: readonly string[], separator = ', '): string {
  const shown = items.slice(0, SUMMARY_ITEMS).join(separator);
  return items.length > SUMMARY_ITEMS ? `${shown} and ${items.length - SUMMARY_ITEMS} more` : shown;
}
