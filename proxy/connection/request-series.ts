import { type Party, partyLabels, type ServiceFacts } from './party.ts';
import { grpcStatusLabel, statusLabel } from './request-series-labels.ts';
import type { Labels, SeriesBank, SeriesSet } from './series.ts';
import { SeriesMemo } from './series-memo.ts';

const UNKNOWN = 'unknown';

const HTTP_COUNTERS = ['istio_requests_total'] as const;
const GRPC_COUNTERS = [
  'istio_requests_total',
  'istio_request_messages_total',
  'istio_response_messages_total',
] as const;
const HISTOGRAMS = ['istio_request_duration_milliseconds', 'istio_request_bytes', 'istio_response_bytes'] as const;

/** Where requests go from and to, as far as labels tell: the same for many requests. */
export interface LaneFacts {
  readonly direction: 'inbound' | 'outbound';
  readonly source: Party;
  readonly destination: Party;
  readonly service: ServiceFacts | null;
  readonly mutualTls: boolean;
  readonly grpc: boolean;
}

/** What became of one request. */
export interface RequestOutcome {
  readonly status: number;
  /** Of a fixed set of our own words. */
  readonly flags: string;
  readonly grpcStatus: number | null;
  readonly durationMs: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
  readonly requestMessages: number;
  readonly responseMessages: number;
}

interface Lane {
  readonly facts: LaneFacts;
  /** By status, flags and gRPC status. */
  readonly memo: SeriesMemo;
}

/** Kept of one party; what is not is found again by its key. */
const MAX_LANES = 16;

/**
 * Istio's metrics of HTTP. Each request is told with its outcome; the set of series that it counts into is remembered by the objects that stand
 * for its labels, so that no key is built for a request that is like an earlier one.
 */
export class RequestSeries {
  readonly #bank: SeriesBank;
  /** By the party at the other end: of the own side there is one. */
  readonly #lanes = new WeakMap<Party, Lane[]>();

  constructor(bank: SeriesBank) {
    this.#bank = bank;
  }

  /** @param now of the loop's clock */
  count(facts: LaneFacts, outcome: RequestOutcome, now: number): void {
    const { slots } = this.#find(this.#lane(facts), outcome, now);
    const bank = this.#bank;
    const [requests = 0] = slots;
    bank.add(requests, 1);
    let at = HTTP_COUNTERS.length;
    if (facts.grpc) {
      bank.add(slots[at++] ?? 0, outcome.requestMessages);
      bank.add(slots[at++] ?? 0, outcome.responseMessages);
    }
    bank.observe(slots[at++] ?? 0, outcome.durationMs);
    bank.observe(slots[at++] ?? 0, outcome.requestBytes);
    bank.observe(slots[at] ?? 0, outcome.responseBytes);
  }

  #lane(facts: LaneFacts): Lane {
    const party = facts.direction === 'inbound' ? facts.source : facts.destination;
    let lanes = this.#lanes.get(party);
    if (lanes === undefined) {
      lanes = [];
      this.#lanes.set(party, lanes);
    }
    for (const lane of lanes) if (isSame(lane.facts, facts)) return lane;
    const { direction, source, destination, service, mutualTls, grpc } = facts;
    const lane: Lane = { facts: { direction, source, destination, service, mutualTls, grpc }, memo: new SeriesMemo() };
    if (lanes.length === MAX_LANES) lanes.shift();
    lanes.push(lane);
    return lane;
  }

  #find({ facts, memo }: Lane, outcome: RequestOutcome, now: number): SeriesSet {
    const { status, flags, grpcStatus } = outcome;
    const known = memo.find(status, flags, grpcStatus, now);
    if (known !== null) return known;
    const set = this.#open(facts, outcome, now);
    memo.keep(status, flags, grpcStatus, set);
    return set;
  }

  #open(facts: LaneFacts, { status, flags, grpcStatus }: RequestOutcome, now: number): SeriesSet {
    const code = statusLabel(status);
    const grpcCode = facts.grpc ? grpcStatusLabel(grpcStatus) : null;
    const { direction, source, destination, service, mutualTls, grpc } = facts;
    const kind = `http|${direction}|${mutualTls}|${grpc}|${code}|${grpcCode}|${flags}`;
    const key = `${kind}|${service?.hostname}|${source.key}|${destination.key}`;
    return this.#bank.family(
      key,
      grpc ? GRPC_COUNTERS : HTTP_COUNTERS,
      () => labelsOf(facts, code, grpcCode, flags),
      now,
      HISTOGRAMS,
    );
  }
}

function isSame(a: LaneFacts, b: LaneFacts): boolean {
  return (
    a.source === b.source &&
    a.destination === b.destination &&
    a.service === b.service &&
    a.direction === b.direction &&
    a.mutualTls === b.mutualTls &&
    a.grpc === b.grpc
  );
}

function labelsOf(facts: LaneFacts, code: number, grpcCode: number | null, flags: string): Labels {
  const { direction, source, destination, service, mutualTls, grpc } = facts;
  return {
    reporter: direction === 'inbound' ? 'destination' : 'source',
    ...partyLabels(source, destination, service),
    request_protocol: grpc ? 'grpc' : 'http',
    response_code: String(code),
    // Empty is absent to Prometheus: as in Istio, HTTP has none.
    grpc_response_status: grpcCode === null ? '' : String(grpcCode),
    response_flags: flags,
    // The source cannot know what the destination requires: Istio says `unknown` there.
    connection_security_policy: direction === 'outbound' ? UNKNOWN : mutualTls ? 'mutual_tls' : 'none',
  };
}
