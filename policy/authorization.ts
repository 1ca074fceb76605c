import type { TcpAttribute } from './attributes.ts';
import { Facts } from './facts.ts';
import { field } from './json.ts';
import { type Policy, type PolicyAction, readPolicy } from './rule.ts';
import { RuleSet } from './rule-index.ts';
import { selects } from './selection.ts';
import { firstFailure, lowerToTcp, type TcpClause, type TcpLowering, type TcpRule } from './tcp-rule.ts';
import { trustDomainsOf } from './trust-domains.ts';
import type {
  CompiledPolicies,
  ConnectionAttributes,
  Decision,
  JsonObject,
  PolicyMesh,
  PolicyWorkload,
  TraceStep,
} from './types.ts';

/**
 * Compiles the AuthorizationPolicies among `objects` that select the workload; the others are left out. Objects must have passed `validateObject`.
 * @throws PosternError ERR_POLICY_MALFORMED where one plainly has not.
 */
export function compilePolicies(
  objects: readonly JsonObject[],
  workload: PolicyWorkload,
  mesh: PolicyMesh,
): TcpAuthorization {
  const policies = objects
    .filter(
      (object) => field(object, 'kind') === 'AuthorizationPolicy' && selects(object, workload, mesh.rootNamespace),
    )
    .map(readPolicy);
  return new TcpAuthorization(policies, mesh);
}

interface Lowered extends TcpLowering {
  readonly policy: Policy;
  /** Null for a policy without rules. */
  readonly index: number | null;
}

const NO_DRY_RUN: Decision['dryRun'] = { allow: null, deny: null, allowPolicy: null, denyPolicy: null };
const NO_NAMES: readonly string[] = [];

/** In which order a connection meets the policies, and an explanation lists them. */
const STAGES: readonly { readonly action: PolicyAction; readonly dryRun: boolean }[] = [
  { action: 'CUSTOM', dryRun: false },
  { action: 'AUDIT', dryRun: false },
  { action: 'DENY', dryRun: false },
  { action: 'ALLOW', dryRun: false },
  { action: 'DENY', dryRun: true },
  { action: 'ALLOW', dryRun: true },
];

/** The policies of one workload for connections that are not known to be HTTP. */
export class TcpAuthorization implements CompiledPolicies {
  readonly empty: boolean;
  readonly #stages: readonly (readonly Lowered[])[];
  readonly #custom: RuleSet;
  readonly #audit: RuleSet;
  readonly #deny: RuleSet;
  /** Null where there is no ALLOW policy; an empty set where there is one that allows nothing on TCP. */
  readonly #allow: RuleSet | null;
  readonly #dryRunDeny: RuleSet | null;
  readonly #dryRunAllow: RuleSet | null;
  readonly #default: Decision['reason'];
  readonly #asksSourceAddress: boolean;
  readonly #asksDestinationAddress: boolean;

  constructor(policies: readonly Policy[], mesh: PolicyMesh) {
    const trustDomains = trustDomainsOf(mesh);
    this.empty = policies.length === 0;
    this.#default = mesh.defaultAction === 'DENY' ? 'default-deny' : 'default-allow';
    this.#stages = STAGES.map(({ action, dryRun }) =>
      policies
        .filter((policy) => policy.action === action && policy.dryRun === dryRun)
        .flatMap((policy) => lowerPolicy(policy, trustDomains)),
    );
    const [custom = [], audit = [], deny = [], allow = [], dryRunDeny = [], dryRunAllow = []] = this.#stages;
    this.#custom = ruleSet(custom);
    this.#audit = ruleSet(audit);
    this.#deny = ruleSet(deny);
    this.#allow = allow.length === 0 ? null : ruleSet(allow);
    this.#dryRunDeny = dryRunDeny.length === 0 ? null : ruleSet(dryRunDeny);
    this.#dryRunAllow = dryRunAllow.length === 0 ? null : ruleSet(dryRunAllow);
    // What is only observed must not change the verdict.
    const enforced = [custom, deny, allow].flat();
    this.#asksSourceAddress = asks(enforced, (attribute) => attribute === 'source.ip' || attribute === 'remote.ip');
    this.#asksDestinationAddress = asks(enforced, (attribute) => attribute === 'destination.ip');
  }

  decide(attributes: ConnectionAttributes): Decision {
    return this.#decide(new Facts(attributes));
  }

  explain(attributes: ConnectionAttributes): { readonly decision: Decision; readonly trace: readonly TraceStep[] } {
    const facts = new Facts(attributes);
    return {
      decision: this.#decide(facts),
      trace: this.#stages.flat().map((lowered) => traceStep(lowered, facts)),
    };
  }

  /** How many rules a decision asks at most. */
  candidates(attributes: ConnectionAttributes): number {
    const facts = new Facts(attributes);
    return [this.#custom, this.#audit, this.#deny, this.#allow, this.#dryRunDeny, this.#dryRunAllow].reduce(
      (sum, rules) => sum + (rules?.candidates(facts) ?? 0),
      0,
    );
  }

  #decide(facts: Facts): Decision {
    const audit = this.#audit.size === 0 ? NO_NAMES : this.#audit.policies(facts);
    const dryRun = this.#dryRun(facts);
    const denied = this.#custom.first(facts) ?? this.#deny.first(facts);
    if (denied !== null) return decision(false, 'deny-policy', denied, audit, dryRun);
    // An address that cannot be read is no proof of being outside a denied block.
    if (!this.#canReadAddresses(facts)) return decision(false, 'no-allow-policy-matched', null, audit, dryRun);
    if (this.#allow === null) {
      return decision(this.#default === 'default-allow', this.#default, null, audit, dryRun);
    }
    const allowed = this.#allow.first(facts);
    return decision(
      allowed !== null,
      allowed === null ? 'no-allow-policy-matched' : 'allow-policy',
      allowed,
      audit,
      dryRun,
    );
  }

  #dryRun(facts: Facts): Decision['dryRun'] {
    if (this.#dryRunAllow === null && this.#dryRunDeny === null) return NO_DRY_RUN;
    const allowed = this.#dryRunAllow?.first(facts) ?? null;
    const denied = this.#dryRunDeny?.first(facts) ?? null;
    return {
      allow: this.#dryRunAllow === null ? null : allowed === null ? 'deny' : 'allow',
      deny: this.#dryRunDeny === null ? null : denied === null ? 'allow' : 'deny',
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
}

function decision(
  allowed: boolean,
  reason: Decision['reason'],
  rule: TcpRule | null,
  audit: readonly string[],
  dryRun: Decision['dryRun'],
): Decision {
  return { allowed, policy: rule?.policy ?? null, rule: rule?.index ?? null, reason, audit, dryRun };
}

function lowerPolicy(policy: Policy, trustDomains: readonly string[]): readonly Lowered[] {
  if (policy.rules.length === 0) return [{ policy, index: null, rule: null, note: 'has no rules: it matches nothing' }];
  return policy.rules.map((rule) => ({ policy, index: rule.index, ...lowerToTcp(policy, rule, trustDomains) }));
}

function ruleSet(lowered: readonly Lowered[]): RuleSet {
  return new RuleSet(lowered.flatMap(({ rule }) => (rule === null ? [] : [rule])));
}

/** Whether any rule has a condition on such an attribute. */
function asks(lowered: readonly Lowered[], isMeant: (attribute: TcpAttribute) => boolean): boolean {
  const inClause = (clause: TcpClause): boolean => clause.some((condition) => isMeant(condition.attribute));
  return lowered.some(
    ({ rule }) => rule !== null && (rule.from.some(inClause) || rule.to.some(inClause) || inClause(rule.when)),
  );
}

function traceStep({ policy, index, rule, note }: Lowered, facts: Facts): TraceStep {
  const failed = rule === null ? null : firstFailure(rule, facts);
  return {
    policy: policy.name,
    // CUSTOM without its authorizer is a denial; the note says so.
    action: policy.action === 'CUSTOM' ? 'DENY' : policy.action,
    dryRun: policy.dryRun,
    rule: index,
    matched: rule !== null && failed === null,
    failed,
    note,
  };
}
