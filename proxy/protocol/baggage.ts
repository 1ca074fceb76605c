/**
 * The W3C `baggage` header with which a tunnel's client says what workload it is, in the members that ztunnel and Istio's waypoints write
 * and read. It is a label for telemetry and nothing else: whoever can open a tunnel can write anything here, and the
 * peer's certificate alone says who it is.
 */
export interface Baggage {
  readonly cluster: string;
  readonly namespace: string;
  readonly workloadName: string;
  readonly canonicalService: string;
  readonly canonicalRevision: string;
}

const UNKNOWN = 'unknown';
const MAX_BYTES = 1024;
const MAX_MEMBERS = 16;
/** What may become the value of a metric's label: bounded, and without anything that needs quoting. Also a Kubernetes label's charset. */
const VALUE = /^[A-Za-z0-9._-]{1,63}$/;
/** `key=value`, optional whitespace, then properties, which we ignore (W3C Baggage, section 3.2.1; token is RFC 9110, section 5.6.2). */
const MEMBER = /^[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*([^\s",;\\]*)[ \t]*(?:;.*)?$/;

export const UNKNOWN_BAGGAGE: Baggage = Object.freeze({
  cluster: UNKNOWN,
  namespace: UNKNOWN,
  workloadName: UNKNOWN,
  canonicalService: UNKNOWN,
  canonicalRevision: UNKNOWN,
});

const sanitised = (value: string): string => (VALUE.test(value) ? value : UNKNOWN);

/** The header's value; constant for a sidecar's life, so format it once. Members and their order are ztunnel's. */
export function formatBaggage(baggage: Baggage): string {
  return [
    `k8s.cluster.name=${sanitised(baggage.cluster)}`,
    `k8s.namespace.name=${sanitised(baggage.namespace)}`,
    `k8s.deployment.name=${sanitised(baggage.workloadName)}`,
    `service.name=${sanitised(baggage.canonicalService)}`,
    `service.version=${sanitised(baggage.canonicalRevision)}`,
  ].join(',');
}

function fieldOf(key: string): keyof Baggage | null {
  switch (key) {
    case 'k8s.cluster.name':
      return 'cluster';
    case 'k8s.namespace.name':
      return 'namespace';
    case 'k8s.deployment.name':
    case 'k8s.pod.name':
    case 'k8s.job.name':
    case 'k8s.cronjob.name':
      return 'workloadName';
    case 'service.name':
      return 'canonicalService';
    case 'service.version':
      return 'canonicalRevision';
    default:
      return null;
  }
}

/**
 * Reads a peer's header. What is missing or not fit for a label is `unknown`; a header that is too long, has too many members, one that is no
 * member, or one of ours twice, says nothing at all: `UNKNOWN_BAGGAGE`.
 */
export function parseBaggage(header: string): Baggage {
  if (header.length > MAX_BYTES) return UNKNOWN_BAGGAGE;
  const members = header.split(',', MAX_MEMBERS + 1);
  if (members.length > MAX_MEMBERS) return UNKNOWN_BAGGAGE;
  const found: { -readonly [K in keyof Baggage]?: string } = {};
  for (const member of members) {
    const [, key, value] = MEMBER.exec(member) ?? [];
    if (key === undefined || value === undefined) return UNKNOWN_BAGGAGE;
    const field = fieldOf(key);
    if (field === null) continue;
    if (found[field] !== undefined) return UNKNOWN_BAGGAGE;
    found[field] = sanitised(value);
  }
  return { ...UNKNOWN_BAGGAGE, ...found };
}
