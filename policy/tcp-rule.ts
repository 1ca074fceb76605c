import { isTcpAttribute } from './attributes.ts';
import type { Facts } from './facts.ts';
import type { Clause, Condition, Policy, Rule } from './rule.ts';
import { compileTcpCondition, type TcpCondition, type TcpContext } from './tcp-condition.ts';
import type { TraceStep } from './types.ts';

export type TcpClause = readonly TcpCondition[];

/** A rule as it stands on TCP. */
export interface TcpRule {
  /** What the smallest of is reported where several rules match. */
  readonly id: string;
  /** `<namespace>/<name>` of its policy. */
  readonly policy: string;
  readonly index: number;
  readonly from: readonly TcpClause[];
  readonly to: readonly TcpClause[];
  readonly when: TcpClause;
}

/** `rule` is null where the rule does not exist on TCP; `note` says what became of it. */
export interface TcpLowering {
  readonly rule: TcpRule | null;
  readonly note: string | null;
}

/** A CUSTOM policy needs an authorizer that the mesh knows; without one, what it matches is denied. */
const BAD_CUSTOM_SUFFIX = '-deny-due-to-bad-CUSTOM-action';

/**
 * What a rule means on TCP (Istio's semantics, 1.9). Where a condition cannot be asked (an attribute of HTTP, a value that is no address or
 * port), an ALLOW rule goes as a whole and any other rule loses the condition: both only ever refuse more.
 */
export function lowerToTcp(policy: Policy, rule: Rule, trustDomains: readonly string[]): TcpLowering {
  const lowering = new Lowering({ policyNamespace: policy.namespace, trustDomains });
  const from = lowering.alternatives(rule.from);
  const to = lowering.alternatives(rule.to);
  const when = lowering.clause(rule.when);
  const notes = lowering.notes();
  if (notes !== null && policy.action === 'ALLOW') return { rule: null, note: `never allows TCP: ${notes}` };
  const isCustom = policy.action === 'CUSTOM';
  return {
    rule: {
      id: isCustom ? rule.id + BAD_CUSTOM_SUFFIX : rule.id,
      policy: policy.name,
      index: rule.index,
      from,
      to,
      when,
    },
    note:
      [
        ...(isCustom ? ['CUSTOM: its provider is not known here, so what it matches is denied'] : []),
        ...(notes === null ? [] : [`left out: ${notes}`]),
      ].join('; ') || null,
  };
}

class Lowering {
  readonly #context: TcpContext;
  readonly #http: string[] = [];
  readonly #invalid: string[] = [];

  constructor(context: TcpContext) {
    this.#context = context;
  }

  /** One alternative that asks nothing makes the others idle. */
  alternatives(clauses: readonly Clause[]): readonly TcpClause[] {
    const lowered = clauses.map((clause) => this.clause(clause));
    return lowered.some((clause) => clause.length === 0) ? [] : lowered;
  }

  clause(clause: Clause): TcpClause {
    return clause.flatMap((condition) => this.#condition(condition));
  }

  #condition(condition: Condition): readonly TcpCondition[] {
    if (!isTcpAttribute(condition.attribute)) this.#http.push(condition.path);
    const compiled = compileTcpCondition(condition, this.#context);
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

export function ruleMatches(rule: TcpRule, facts: Facts): boolean {
  return anyHolds(rule.from, facts) && anyHolds(rule.to, facts) && clauseHolds(rule.when, facts);
}

function anyHolds(clauses: readonly TcpClause[], facts: Facts): boolean {
  if (clauses.length === 0) return true;
  for (const clause of clauses) if (clauseHolds(clause, facts)) return true;
  return false;
}

function clauseHolds(clause: TcpClause, facts: Facts): boolean {
  for (const condition of clause) if (!condition.holds(facts)) return false;
  return true;
}

/** Why a rule does not match, null where it does: the first part of it that fails. */
export function firstFailure(rule: TcpRule, facts: Facts): TraceStep['failed'] {
  return (
    failureOfAny('from', rule.from, facts) ?? failureOfAny('to', rule.to, facts) ?? failureOfClause(rule.when, facts)
  );
}

/** Of one alternative, its condition; of several, all of theirs, for the first alone would mislead. */
function failureOfAny(part: string, clauses: readonly TcpClause[], facts: Facts): TraceStep['failed'] {
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

function failureOfClause(clause: TcpClause, facts: Facts): TraceStep['failed'] {
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
