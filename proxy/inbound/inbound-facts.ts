import type { ConnectionAttributes } from '../../policy/types.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import { type Party, partyOf, serviceFacts } from '../connection/party.ts';
import type { PeerIdentity } from '../connection/peer-identity.ts';
import { ConnectionRecord, type Flags, type Transport } from '../connection/record.ts';
import type { Address } from '../native/socket.ts';
import type { TlsFacts } from '../native/tls-session.ts';
import type { Authorizer } from './authorizer.ts';

/** What is known of a connection that came for this workload before it is decided. */
export interface InboundFacts {
  readonly target: Address;
  readonly source: Party;
  readonly from: Address;
  /** Null for a peer that did not authenticate. */
  readonly peer: PeerIdentity | null;
  readonly transport: Transport;
  readonly tls: TlsFacts | null;
  readonly sni: string;
}

export function openRecord(plane: DataPlane, facts: InboundFacts): ConnectionRecord {
  const own = plane.view.registry.workloadAt(facts.target.address);
  const destination = partyOf(own, plane.tls.identity?.spiffeId ?? null);
  const record = new ConnectionRecord(plane, 'inbound', facts.source, facts.from, destination, facts.target);
  record.transport = facts.transport;
  record.tls = facts.tls;
  record.originalDestination = facts.target;
  const service = own === null ? null : plane.view.registry.serviceServing(own.name, facts.target.port);
  record.service = service === null ? null : serviceFacts(service);
  return record;
}

export function attributesOf(facts: InboundFacts): ConnectionAttributes {
  return {
    sourcePrincipal: facts.peer?.principal ?? null,
    sourceIp: facts.from.address,
    destinationIp: facts.target.address,
    destinationPort: facts.target.port,
    sni: facts.sni,
  };
}

/** Why a live connection must end whatever the authorization policies say: its peer is not trusted any more, or had to show who it is. */
export function whyCut(
  plane: DataPlane,
  authorizer: Authorizer,
  { peer, target }: Pick<InboundFacts, 'peer' | 'target'>,
): { readonly flags: Flags; readonly detail: string } | null {
  if (peer === null) {
    if (authorizer.mode(target.port) !== 'STRICT') return null;
    return { flags: 'DENY', detail: 'PeerAuthentication has become STRICT' };
  }
  const distrust = plane.tls.stillTrusted(peer);
  if (distrust === null) return null;
  return { flags: distrust === 'revoked' ? 'CERT_REVOKED' : 'IDENTITY_ERROR', detail: distrust };
}
