import type { PathNormalization } from '../../mesh/resources.ts';
// Not by policy/index.ts: that would load the YAML parser, 3 MB in every sidecar.
import { compileAuthentication } from '../../policy/authentication.ts';
import { compilePolicies } from '../../policy/authorization.ts';
import type {
  Claims,
  CompiledAuthentication,
  CompiledPolicies,
  ConnectionAttributes,
  Decision,
  JsonObject,
  MtlsMode,
  PolicyMesh,
  RequestAttributes,
  RequestDecider,
} from '../../policy/types.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import { ownWorkload } from '../connection/own-workload.ts';
import type { ConnectionRecord } from '../connection/record.ts';

const NOTHING_IN_FORCE = 'no policy has been received yet, or one that was could not be read';

/**
 * The policies in force for this workload. ALWAYS: without a first push there is no policy, and without policy nothing comes in.
 */
export class Authorizer {
  readonly #plane: DataPlane;
  #policies: CompiledPolicies | null = null;
  #authentication: CompiledAuthentication | null = null;
  /** How the paths of requests are made plain. */
  pathNormalization: PathNormalization = 'BASE';

  constructor(plane: DataPlane) {
    this.#plane = plane;
  }

  /** After a delta that changed policies, the labels by which they select, or the mesh configuration. */
  refresh(): void {
    const { view } = this.#plane;
    const mesh: PolicyMesh | null = view.meshConfig;
    if (mesh === null) return;
    this.pathNormalization = mesh.pathNormalization;
    // Until they are compiled there are none: what cannot be compiled must not leave former ones in force.
    this.#policies = null;
    this.#authentication = null;
    if (view.lacksPolicy) return;
    const workload = ownWorkload(this.#plane);
    // Policies have been validated when they were taken into the view; their values are JSON. Of each kind the compilers take what concerns them.
    const objects = view.policies().map(({ object }) => object as JsonObject);
    this.#policies = compilePolicies(objects, workload, mesh);
    this.#authentication = compileAuthentication(objects, workload, mesh);
  }

  /** What a port accepts; STRICT before anything is known. */
  mode(port: number): MtlsMode {
    return this.#authentication?.mode(port) ?? 'STRICT';
  }

  /** Why a STRICT port takes no plaintext, for the log: a rule, or that no rule is known. */
  get plaintextRefusal(): string {
    return `plaintext is refused: ${this.#authentication === null ? NOTHING_IN_FORCE : 'PeerAuthentication is STRICT'}`;
  }

  /** Decides without counting: for a connection that lives already. */
  decide(attributes: ConnectionAttributes): Decision | null {
    return this.#policies?.decide(attributes) ?? null;
  }

  /** Decides the requests of a connection, until the next `refresh`; null: no policy has been received yet. */
  forConnection(attributes: ConnectionAttributes): RequestDecider | null {
    return this.#policies?.forConnection(attributes) ?? null;
  }

  /** Decides a new connection, and leaves the decision in its record and in the metrics. */
  admit(record: ConnectionRecord, attributes: ConnectionAttributes): boolean {
    const decision = this.decide(attributes);
    record.decision = decision;
    if (decision === null) return false;
    this.#count(decision);
    if (!decision.allowed && this.#plane.debug) {
      const trace = this.#policies?.explain(attributes).trace ?? [];
      this.#plane.log('debug', 'denied', { attributes, trace });
    }
    return decision.allowed;
  }

  /** Decides a new request by the decider of its connection, and leaves the decision in the metrics. */
  admitRequest(
    decider: RequestDecider,
    connection: ConnectionAttributes,
    request: RequestAttributes,
    claims: Claims,
  ): Decision {
    const decision = decider.decide(request, claims);
    this.#count(decision);
    if (!decision.allowed && this.#plane.debug) {
      const trace = this.#policies?.explainRequest(connection, request, claims).trace ?? [];
      const { method, path, host } = request;
      this.#plane.log('debug', 'denied', { attributes: { ...connection, method, path, host }, trace });
    }
    return decision;
  }

  #count(decision: Decision): void {
    const { metrics } = this.#plane;
    const verdict = decision.allowed ? 'allowed' : 'denied';
    metrics.decision(decision.policy ?? 'none', decision.rule === null ? 'none' : String(decision.rule), verdict);
    const { dryRun } = decision;
    if (dryRun.allow !== null) metrics.dryRun('allow', dryRun.allow, dryRun.allowPolicy ?? 'none');
    if (dryRun.deny !== null) metrics.dryRun('deny', dryRun.deny, dryRun.denyPolicy ?? 'none');
  }
}

/** Why a connection was refused, in one line for the peer and the log. */
export function refusalOf(decision: Decision | null): string {
  if (decision === null) return NOTHING_IN_FORCE;
  switch (decision.reason) {
    case 'deny-policy':
      return `denied by ${decision.policy} rule ${decision.rule}`;
    case 'custom-policy':
      return `${decision.policy} rule ${decision.rule} wants provider ${decision.provider} to be asked, which is not done yet`;
    case 'no-allow-policy-matched':
      return 'no ALLOW policy matched';
    case 'default-deny':
      return 'denied by default';
    default:
      return 'denied';
  }
}
