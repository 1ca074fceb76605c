import { TlsContext, type TlsMaterial } from '../native/tls-context.ts';
import type { TlsSession } from '../native/tls-session.ts';
import { readRoot } from '../native/x509.ts';
import type { MeshView } from '../protocol/mesh-view.ts';
import { type PeerIdentity, readPeer } from './peer-identity.ts';

/** What this sidecar shows. */
export interface OwnIdentity {
  readonly spiffeId: string;
  readonly chain: string;
  readonly privateKey: string;
  readonly notAfter: number;
}

/** A tunnel may outlive the certificate that it was opened with, so that long connections survive rotations, but not for ever. */
export const TUNNEL_OUTLIVES_CERTIFICATE_MS = 24 * 3_600_000;

/** HTTP/2 of the tunnel. */
const TUNNEL_ALPN = ['h2'];
/** Istio's names for direct mutual TLS; `istio-peer-exchange` would promise a metadata exchange that we do not speak. */
const DIRECT_SERVER_ALPN = ['istio', 'istio-http/1.1', 'istio-h2', 'istio-http/1.0'];

/** What a client of direct mutual TLS says that it will speak: bytes, HTTP/1.1 or HTTP/2. */
export type DirectAlpn = 'istio' | 'istio-http/1.1' | 'istio-h2';

/** None for what is no root: it has been refused before it came here. */
function fingerprintOfRoot(pem: string): string[] {
  const root = readRoot(pem);
  return 'fingerprint' in root ? [root.fingerprint] : [];
}

export interface Contexts {
  readonly tunnelServer: TlsContext;
  readonly tunnelClient: TlsContext;
  readonly directServer: TlsContext;
}

export type PeerCheck =
  | { readonly ok: true; readonly peer: PeerIdentity }
  | { readonly ok: false; readonly reason: string };

/**
 * The sidecar's own certificate and whom it trusts, as OpenSSL contexts. Any change of the certificate, the trust bundle or the revocations makes
 * new contexts and a new `generation`: session tickets die with the old ones.
 */
export class MeshTls {
  readonly #view: MeshView;
  readonly #now: () => number;
  #identity: OwnIdentity | null = null;
  #contexts: Contexts | null = null;
  /** What `#contexts` were made of; null as they. */
  #material: TlsMaterial | null = null;
  /** Of the generation of `#contexts`; made when first asked for, since most meshes have no workload that they are for. */
  readonly #directClients = new Map<DirectAlpn, TlsContext>();
  #rootPrints: ReadonlySet<string> = new Set();
  /** Rises whenever a root leaves the trust bundle. */
  #removals = 0;
  /** Peers of resumed sessions, whose root is not known, and `#removals` when they came: they do not outlive any root. */
  readonly #resumed = new WeakMap<PeerIdentity, number>();
  /** Rises with every new set of contexts; 0: none yet. */
  generation = 0;

  /** @param now Unix time in milliseconds. */
  constructor(view: MeshView, now: () => number) {
    this.#view = view;
    this.#now = now;
  }

  get identity(): OwnIdentity | null {
    return this.#identity;
  }

  /** Null until there is a certificate and a trust bundle: nothing is accepted or opened before. */
  get contexts(): Contexts | null {
    return this.#contexts;
  }

  /** @throws PosternError ERR_TLS_MATERIAL where OpenSSL refuses it; what was in force stays. */
  setIdentity(identity: OwnIdentity): void {
    this.#rebuild(identity);
    this.#identity = identity;
  }

  /** After the trust bundle or the revocations changed. @throws as `setIdentity`. */
  trustChanged(): void {
    const roots = this.#view.trustBundle?.roots ?? [];
    const before = this.#rootPrints;
    this.#rootPrints = new Set(roots.flatMap(fingerprintOfRoot));
    for (const print of before) if (!this.#rootPrints.has(print)) this.#removals++;
    if (this.#identity !== null) this.#rebuild(this.#identity);
  }

  /** For a connection to an Istio sidecar; null as `contexts`. @throws PosternError ERR_TLS_MATERIAL as `setIdentity` */
  directClient(alpn: DirectAlpn): TlsContext | null {
    const material = this.#material;
    if (material === null) return null;
    let context = this.#directClients.get(alpn);
    if (context === undefined) {
      context = new TlsContext('client', material, [alpn]);
      this.#directClients.set(alpn, context);
    }
    return context;
  }

  #rebuild(identity: OwnIdentity): void {
    const roots = this.#view.trustBundle?.roots ?? [];
    if (roots.length === 0) return;
    const material: TlsMaterial = { chain: identity.chain, privateKey: identity.privateKey, roots };
    const made: TlsContext[] = [];
    const make = (role: 'client' | 'server', alpn: readonly string[]): TlsContext => {
      const context = new TlsContext(role, material, alpn);
      made.push(context);
      return context;
    };
    try {
      const before = this.#contexts;
      this.#contexts = {
        tunnelServer: make('server', TUNNEL_ALPN),
        tunnelClient: make('client', TUNNEL_ALPN),
        directServer: make('server', DIRECT_SERVER_ALPN),
      };
      this.#material = material;
      this.generation++;
      // Sessions hold references of their own.
      if (before !== null) for (const context of Object.values(before) as TlsContext[]) context.free();
      for (const context of this.#directClients.values()) context.free();
      this.#directClients.clear();
    } catch (error) {
      for (const context of made) context.free();
      throw error;
    }
  }

  /**
   * Who the peer is, and whether it may be talked to at all: trust domain, revocation, and `expected` (a SPIFFE ID) where it is given.
   * @param generation `this.generation` when the handshake began: a session resumed across a change of trust has verified nothing
   */
  checkPeer(tls: TlsSession, expected: string | null, generation: number): PeerCheck {
    const result = readPeer(tls, this.#now());
    if (!result.ok) return result;
    const { peer } = result;
    if (peer.root === null && generation !== this.generation) {
      return { ok: false, reason: 'trust changed while an old session was being resumed' };
    }
    if (peer.root === null) this.#resumed.set(peer, this.#removals);
    // The bundle may have changed while the handshake was under way.
    const reason = this.stillTrusted(peer);
    if (reason !== null) return { ok: false, reason };
    if (expected !== null && peer.spiffe.uri !== expected) {
      return { ok: false, reason: `identity mismatch: expected ${expected}, found ${peer.spiffe.uri}` };
    }
    return result;
  }

  #whyNot(peer: PeerIdentity): string | null {
    const mesh = this.#view.meshConfig;
    if (mesh === null) return 'no mesh configuration yet';
    const { trustDomain } = peer.spiffe;
    if (trustDomain !== mesh.trustDomain && !mesh.trustDomainAliases.includes(trustDomain)) {
      return `trust domain ${trustDomain} is not ${mesh.trustDomain} or an alias of it`;
    }
    return this.#view.isRevoked(peer.spiffe.uri, peer.serial) ? 'revoked' : null;
  }

  /**
   * Why a live connection of the peer must end now; null where it may go on. Expiry is not a reason: a connection may outlive its certificate for a
   * while. Nor is a root that left the bundle after the peer's certificate had expired: a routine rotation ends so, and must cut nobody.
   */
  stillTrusted(peer: PeerIdentity): string | null {
    const reason = this.#whyNot(peer);
    if (reason !== null) return reason;
    const trusted = peer.root === null ? this.#resumed.get(peer) === this.#removals : this.#rootPrints.has(peer.root);
    if (!trusted && this.#now() < peer.notAfter) return 'its root is no longer trusted';
    return null;
  }
}
