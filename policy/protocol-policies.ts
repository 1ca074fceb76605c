import type { Attribute } from './attributes.ts';
import type { Bucket } from './buckets.ts';
import {
  type CompiledClause,
  type CompiledRule,
  firstFailure,
  type Lowering,
  type LoweringContext,
  lowerRule,
  NO_DRY_RUN,
  NO_NAMES,
} from './compiled-rule.ts';
import type { Protocol } from './condition.ts';
import { customOutcome } from './custom.ts';
import type { Facts } from './facts.ts';
import type { Policy, PolicyAction } from './rule.ts';
import { RuleSet } from './rule-index.ts';
import { trustDomainsOf } from './trust-domains.ts';
import type { Decision, PolicyMesh, TraceStep } from './types.ts';

interface Lowered extends Lowering {
  readonly policy: Policy;
  /** Null for a policy without rules. */
  readonly index: number | null;
}

/** The sets of rules that a decision asks. */
type Stage = 'custom' | 'audit' | 'deny' | 'allow' | 'dryRunDeny' | 'dryRunAllow';

/** In which order a connection or request meets the policies, and an explanation lists them. */
const STAGES: readonly { readonly stage: Stage; readonly action: PolicyAction; readonly dryRun: boolean }[] = [
  { stage: 'custom', action: 'CUSTOM', dryRun: false },
  { stage: 'audit', action: 'AUDIT', dryRun: false },
  { stage: 'deny', action: 'DENY', dryRun: false },
  { stage: 'allow', action: 'ALLOW', dryRun: false },
  { stage: 'dryRunDeny', action: 'DENY', dryRun: true },
  { stage: 'dryRunAllow', action: 'ALLOW', dryRun: true },
];

/** The rules that a connection leads to at each stage, for all its requests. */
export type Found = { readonly [stage in Stage]?: readonly Bucket[] };
const NOT_FOUND_YET: Found = {};

/** A decision that no rule made. */
function withoutRule(reason: Decision['reason']): Decision {
  const allowed = reason === 'default-allow';
  return { allowed, policy: null, rule: null, reason, provider: null, audit: NO_NAMES, dryRun: NO_DRY_RUN };
}
const NO_ALLOW_POLICY_MATCHED = withoutRule('no-allow-policy-matched');
const DEFAULT = { ALLOW: withoutRule('default-allow'), DENY: withoutRule('default-deny') };

/** The policies of one workload as they stand on one protocol. */
export class ProtocolPolicies {
  readonly #lowered: readonly Lowered[];
  /** Null where the workload has no policy of that stage. An empty set of ALLOW is a policy that allows nothing. */
  readonly #sets: { readonly [stage in Stage]: RuleSet | null };
  readonly #default: Decision;
  readonly #asksSourceAddress: boolean;
  readonly #asksDestinationAddress: boolean;

  constructor(policies: readonly Policy[], mesh: PolicyMesh, protocol: Protocol) {
    const context: LoweringContext = {
      protocol,
      trustDomains: trustDomainsOf(mesh),
      custom: customOutcome(policies, mesh.extensionProviders, protocol),
    };
    const stages = STAGES.map(({ stage, action, dryRun }) => {
      const of = policies.filter((policy) => policy.action === action && policy.dryRun === dryRun);
      return { stage, lowered: of.flatMap((policy) => lowerPolicy(policy, context)) };
    });
    const of = (stage: Stage): readonly Lowered[] => stages.find((one) => one.stage === stage)?.lowered ?? [];
    const set = (stage: Stage): RuleSet | null => (of(stage).length === 0 ? null : ruleSet(of(stage)));
    this.#lowered = stages.flatMap(({ lowered }) => lowered);
    this.#sets = {
      custom: set('custom'),
      audit: set('audit'),
      deny: set('deny'),
      allow: set('allow'),
      dryRunDeny: set('dryRunDeny'),
      dryRunAllow: set('dryRunAllow'),
    };
    this.#default = DEFAULT[mesh.defaultAction];
    // What is only observed must not change the verdict.
    const enforced = [...of('custom'), ...of('deny'), ...of('allow')];
    this.#asksSourceAddress = asks(enforced, (attribute) => attribute === 'source.ip' || attribute === 'remote.ip');
    this.#asksDestinationAddress = asks(enforced, (attribute) => attribute === 'destination.ip');
  }

  /** What depends on the connection alone. */
  find(facts: Facts): Found {
    const { custom, audit, deny, allow, dryRunDeny, dryRunAllow } = this.#sets;
    return {
      ...(custom === null ? {} : { custom: custom.ofConnection(facts) }),
      ...(audit === null ? {} : { audit: audit.ofConnection(facts) }),
      ...(deny === null ? {} : { deny: deny.ofConnection(facts) }),
      ...(allow === null ? {} : { allow: allow.ofConnection(facts) }),
      ...(dryRunDeny === null ? {} : { dryRunDeny: dryRunDeny.ofConnection(facts) }),
      ...(dryRunAllow === null ? {} : { dryRunAllow: dryRunAllow.ofConnection(facts) }),
    };
  }

  /** @param found of this connection, where it has been found already. */
  decide(facts: Facts, found: Found = NOT_FOUND_YET): Decision {
    const verdict = this.#enforce(facts, found);
    const { audit, dryRunDeny, dryRunAllow } = this.#sets;
    if (audit === null && dryRunDeny === null && dryRunAllow === null) return verdict;
    return {
      ...verdict,
      audit: audit?.policies(facts, found.audit) ?? NO_NAMES,
      dryRun: this.#dryRun(facts, found),
    };
  }

  #enforce(facts: Facts, found: Found): Decision {
    const { custom, deny, allow } = this.#sets;
    const denied = custom?.first(facts, found.custom) ?? deny?.first(facts, found.deny) ?? null;
    if (denied !== null) return denied.verdict;
    // An address that cannot be read is no proof of being outside a denied block.
    if (!this.#canReadAddresses(facts)) return NO_ALLOW_POLICY_MATCHED;
    if (allow === null) return this.#default;
    return allow.first(facts, found.allow)?.verdict ?? NO_ALLOW_POLICY_MATCHED;
  }

  #dryRun(facts: Facts, found: Found): Decision['dryRun'] {
    const { dryRunDeny, dryRunAllow } = this.#sets;
    if (dryRunDeny === null && dryRunAllow === null) return NO_DRY_RUN;
    const allowed = dryRunAllow?.first(facts, found.dryRunAllow) ?? null;
    const denied = dryRunDeny?.first(facts, found.dryRunDeny) ?? null;
    return {
      allow: dryRunAllow === null ? null : allowed === null ? 'deny' : 'allow',
      deny: dryRunDeny === null ? null : denied === null ? 'allow' : 'deny',
      allowPolicy: allowed?.policy ?? null,
      denyPolicy: denied?.policy ?? null,
    };
  }

  #canReadAddresses(facts: Facts): boolean {
    return (
      (!this.#asksSourceAddress || facts.sourceAddress !== null) &&
      (!this.#asksDestinationAddress || facts.destinationAddress !== null)
    );
  }

  trace(facts: Facts): readonly TraceStep[] {
    const steps = this.#lowered.map((lowered) => traceStep(lowered, facts));
    return this.#canReadAddresses(facts) ? steps : steps.map(withoutAddress);
  }

  /** How many rules a decision asks at most. */
  candidates(facts: Facts): number {
    return Object.values(this.#sets).reduce((sum, rules) => sum + (rules?.candidates(facts) ?? 0), 0);
  }
}

function lowerPolicy(policy: Policy, context: LoweringContext): readonly Lowered[] {
  if (policy.rules.length === 0) return [{ policy, index: null, rule: null, note: 'has no rules: it matches nothing' }];
  return policy.rules.map((rule) => ({ policy, index: rule.index, ...lowerRule(policy, rule, context) }));
}

function ruleSet(lowered: readonly Lowered[]): RuleSet {
  return new RuleSet(lowered.flatMap(({ rule }) => (rule === null ? [] : [rule])));
}

const UNKNOWN_ADDRESS = 'nothing is allowed: a rule asks for an address that is not known';

/** A step of an explanation where `#enforce` does not come to the ALLOW policies. */
function withoutAddress(step: TraceStep): TraceStep {
  if (step.dryRun || step.action === 'AUDIT') return step;
  const note = step.note === null ? UNKNOWN_ADDRESS : `${step.note}; ${UNKNOWN_ADDRESS}`;
  return { ...step, matched: step.matched && step.action !== 'ALLOW', note };
}

/** Whether any rule has a condition on such an attribute. */
function asks(lowered: readonly Lowered[], isMeant: (attribute: Attribute) => boolean): boolean {
  const inClause = (clause: CompiledClause): boolean => clause.some((condition) => isMeant(condition.attribute));
  const inRule = ({ from, to, when }: CompiledRule): boolean =>
    from.some(inClause) || to.some(inClause) || inClause(when);
  return lowered.some(({ rule }) => rule !== null && inRule(rule));
}

function traceStep({ policy, index, rule, note }: Lowered, facts: Facts): TraceStep {
  const failed = rule === null ? null : firstFailure(rule, facts);
  return {
    policy: policy.name,
    // As long as nobody asks its authorizer, CUSTOM is a denial; the note says so.
    action: policy.action === 'CUSTOM' ? 'DENY' : policy.action,
    dryRun: policy.dryRun,
    rule: index,
    matched: rule !== null && failed === null,
    failed,
    note,
  };
}
