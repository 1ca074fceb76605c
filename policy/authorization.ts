import { DelimitedClaims } from './claims.ts';
import type { Protocol } from './condition.ts';
import { Facts } from './facts.ts';
import { field } from './json.ts';
import { type Found, ProtocolPolicies } from './protocol-policies.ts';
import { RequestFacts } from './request-facts.ts';
import { type Policy, readPolicy } from './rule.ts';
import { selects } from './selection.ts';
import type {
  Claims,
  CompiledPolicies,
  ConnectionAttributes,
  Decision,
  JsonObject,
  PolicyMesh,
  PolicyWorkload,
  RequestAttributes,
  RequestDecider,
  TraceStep,
} from './types.ts';

/**
 * Compiles the AuthorizationPolicies among `objects` that select the workload; the others are left out. Of the RequestAuthentications among them
 * the `spaceDelimitedClaims` count, which say how a token's claims are read. Objects must have passed `validateObject`.
 * @throws PosternError ERR_POLICY_MALFORMED where an AuthorizationPolicy plainly has not.
 */
export function compilePolicies(
  objects: readonly JsonObject[],
  workload: PolicyWorkload,
  mesh: PolicyMesh,
): Authorization {
  const policies = objects
    .filter(
      (object) => field(object, 'kind') === 'AuthorizationPolicy' && selects(object, workload, mesh.rootNamespace),
    )
    .map(readPolicy);
  return new Authorization(policies, mesh, new DelimitedClaims(objects, workload, mesh.rootNamespace));
}

type Explanation = { readonly decision: Decision; readonly trace: readonly TraceStep[] };

/** The policies of one workload. */
export class Authorization implements CompiledPolicies {
  readonly empty: boolean;
  readonly #policies: readonly Policy[];
  readonly #mesh: PolicyMesh;
  readonly #delimited: DelimitedClaims;
  /** Made when first needed: most workloads speak one protocol. */
  #tcp: ProtocolPolicies | null = null;
  #http: ProtocolPolicies | null = null;

  constructor(policies: readonly Policy[], mesh: PolicyMesh, delimited: DelimitedClaims) {
    this.empty = policies.length === 0;
    this.#policies = policies;
    this.#mesh = mesh;
    this.#delimited = delimited;
  }

  decide(attributes: ConnectionAttributes): Decision {
    return this.#forTcp.decide(new Facts(attributes));
  }

  explain(attributes: ConnectionAttributes): Explanation {
    const facts = new Facts(attributes);
    return { decision: this.#forTcp.decide(facts), trace: this.#forTcp.trace(facts) };
  }

  forConnection(attributes: ConnectionAttributes): RequestDecider {
    return new ConnectionDecider(this.#forHttp, attributes, new RequestFacts(this.#delimited));
  }

  explainRequest(attributes: ConnectionAttributes, request: RequestAttributes, claims: Claims): Explanation {
    const facts = this.#requestFacts(attributes, request, claims);
    return { decision: this.#forHttp.decide(facts), trace: this.#forHttp.trace(facts) };
  }

  /** How many rules a decision on the connection asks at most; with a request, one on that. */
  candidates(attributes: ConnectionAttributes, request?: RequestAttributes, claims: Claims = null): number {
    if (request === undefined) return this.#forTcp.candidates(new Facts(attributes));
    return this.#forHttp.candidates(this.#requestFacts(attributes, request, claims));
  }

  #requestFacts(attributes: ConnectionAttributes, request: RequestAttributes, claims: Claims): Facts {
    const facts = new RequestFacts(this.#delimited);
    facts.begin(request, claims);
    return new Facts(attributes, facts);
  }

  get #forTcp(): ProtocolPolicies {
    this.#tcp ??= this.#lower('tcp');
    return this.#tcp;
  }

  get #forHttp(): ProtocolPolicies {
    this.#http ??= this.#lower('http');
    return this.#http;
  }

  #lower(protocol: Protocol): ProtocolPolicies {
    return new ProtocolPolicies(this.#policies, this.#mesh, protocol);
  }
}

class ConnectionDecider implements RequestDecider {
  readonly #policies: ProtocolPolicies;
  readonly #request: RequestFacts;
  readonly #facts: Facts;
  readonly #found: Found;

  constructor(policies: ProtocolPolicies, attributes: ConnectionAttributes, request: RequestFacts) {
    this.#policies = policies;
    this.#request = request;
    this.#facts = new Facts(attributes, request);
    this.#found = policies.find(this.#facts);
  }

  decide(request: RequestAttributes, claims: Claims): Decision {
    this.#request.begin(request, claims);
    try {
      return this.#policies.decide(this.#facts, this.#found);
    } finally {
      this.#request.end();
    }
  }
}
