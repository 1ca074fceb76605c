import { type Attribute, isTcpAttribute } from './attributes.ts';
import { connectionMatcher } from './connection-matchers.ts';
import type { Facts } from './facts.ts';
import type { IndexKey } from './index-key.ts';
import { requestMatcher } from './request-matchers.ts';
import type { Condition } from './rule.ts';

/** What a policy is compiled for: connections that are not known to be HTTP, or requests. */
export type Protocol = 'tcp' | 'http';

/** A condition, ready to be asked. */
export interface CompiledCondition {
  readonly source: Condition;
  readonly attribute: Attribute;
  holds(facts: Facts): boolean;
  /** What there is, for an explanation. */
  found(facts: Facts): string;
  /**
   * Facts of which at least one is true of everything for which this holds; null where no such list is known. What the index
   * of rules is built from: it may say too much, never too little.
   */
  readonly keys: readonly IndexKey[] | null;
}

export interface CompileContext {
  readonly protocol: Protocol;
  /** Where a service account without a namespace lives. */
  readonly policyNamespace: string;
  readonly trustDomains: readonly string[];
}

/**
 * Compiles a condition. `condition` is null where the attribute does not exist on the protocol, or no value is left; `invalid` are the values that
 * cannot be read. Whoever makes the rule decides what either means for its action.
 */
export function compileCondition(
  source: Condition,
  context: CompileContext,
): { readonly condition: CompiledCondition | null; readonly invalid: readonly string[] } {
  const { attribute, negated } = source;
  if (!existsOn(attribute, context.protocol)) return { condition: null, invalid: [] };
  const { matches, found, keys, invalid } = isTcpAttribute(attribute)
    ? connectionMatcher(attribute, source.values, context)
    : requestMatcher(attribute, source.name, source.values);
  if (invalid.length === source.values.length) return { condition: null, invalid };
  const condition: CompiledCondition = {
    source,
    attribute,
    // An attribute that is absent matches no value, so that a negated condition on it holds.
    holds: negated ? (facts) => !matches(facts) : matches,
    found,
    keys: negated ? null : keys,
  };
  return { condition, invalid };
}

export function existsOn(attribute: Attribute, protocol: Protocol): boolean {
  return protocol === 'http' || isTcpAttribute(attribute);
}
