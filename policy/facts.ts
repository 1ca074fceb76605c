import { type IpAddress, parseIp } from './ip.ts';
import type { RequestFacts } from './request-facts.ts';
import type { ConnectionAttributes } from './types.ts';

/** A peer's principal in the parts that policies ask about. */
export interface SourceIdentity {
  /** Without `spiffe://`. */
  readonly principal: string;
  readonly trustDomain: string;
  /** `<namespace>/<service account>` and its parts; null where the principal is not of the mesh's plain form. */
  readonly plain: { readonly namespace: string; readonly serviceAccount: string } | null;
}

/**
 * A connection's attributes, taken apart once for all the conditions of a decision. Addresses are read when first asked for: most
 * workloads have no rule on them.
 */
export class Facts {
  readonly source: SourceIdentity | null;
  readonly destinationPort: number;
  readonly sni: string;
  /** Of the request that is being decided; null on TCP. */
  readonly request: RequestFacts | null;
  readonly #attributes: ConnectionAttributes;
  #sourceAddress: IpAddress | null | undefined;
  #destinationAddress: IpAddress | null | undefined;

  constructor(attributes: ConnectionAttributes, request: RequestFacts | null = null) {
    this.#attributes = attributes;
    this.request = request;
    this.source = readIdentity(attributes.sourcePrincipal);
    this.destinationPort = attributes.destinationPort;
    this.sni = attributes.sni;
  }

  /** Null where the text is no address. */
  get sourceAddress(): IpAddress | null {
    if (this.#sourceAddress === undefined) this.#sourceAddress = readAddress(this.#attributes.sourceIp);
    return this.#sourceAddress;
  }

  get destinationAddress(): IpAddress | null {
    if (this.#destinationAddress === undefined) {
      this.#destinationAddress = readAddress(this.#attributes.destinationIp);
    }
    return this.#destinationAddress;
  }

  /** Who the nearest proxy before the peer says was its client, where there is a readable one; else the peer. */
  get remoteAddress(): IpAddress | null {
    return this.request?.forwardedFor ?? this.sourceAddress;
  }

  get sourceIpText(): string {
    return this.#attributes.sourceIp;
  }

  get destinationIpText(): string {
    return this.#attributes.destinationIp;
  }
}

/** A link-local peer's address carries the zone it was heard on; blocks have none. */
function readAddress(text: string): IpAddress | null {
  const zone = text.indexOf('%');
  return parseIp(zone < 0 ? text : text.slice(0, zone));
}

function readIdentity(principal: string | null): SourceIdentity | null {
  if (principal === null || principal === '') return null;
  const end = principal.indexOf('/');
  const trustDomain = end < 0 ? principal : principal.slice(0, end);
  return { principal, trustDomain, plain: readPlain(principal, trustDomain) };
}

/**
 * Namespace and service account of `<trust domain>/ns/<namespace>/sa/<service account>`. Istio finds them by unanchored regular expressions,
 * under which a trust domain or namespace called `ns` has a second reading; those, and every other form, are left to the literal matchers.
 */
function readPlain(principal: string, trustDomain: string): SourceIdentity['plain'] {
  const namespaceAt = trustDomain.length + 4;
  if (trustDomain === '' || trustDomain === 'ns' || !principal.startsWith('/ns/', trustDomain.length)) return null;
  const namespaceEnd = principal.indexOf('/', namespaceAt);
  if (namespaceEnd <= namespaceAt || !principal.startsWith('/sa/', namespaceEnd)) return null;
  const namespace = principal.slice(namespaceAt, namespaceEnd);
  const serviceAccount = principal.slice(namespaceEnd + 4);
  if (namespace === 'ns' || serviceAccount === '' || serviceAccount.includes('/')) return null;
  return { namespace, serviceAccount };
}
