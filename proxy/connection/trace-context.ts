/** What a W3C `traceparent` says. IDs in lower-case hexadecimal. */
export interface TraceParent {
  readonly traceId: string;
  /** The caller's span. */
  readonly parentId: string;
  readonly sampled: boolean;
}

/** Of one request on its way through this sidecar. */
export interface TraceContext {
  readonly traceId: string;
  /** The caller's span; null: the trace begins here. */
  readonly parentSpanId: string | null;
  /** This sidecar's own span; null: none is recorded. */
  readonly spanId: string | null;
  /** The `traceparent` of the next hop. */
  readonly traceparent: string;
  /** The caller's trace goes on. NEVER pass its `tracestate` on where this is false (Trace Context, 3.3.1.1). */
  readonly carried: boolean;
}

/** Version, trace ID, parent ID and flags, with a dash between them. */
const LENGTH = 55;
const TRACE_AT = 3;
const PARENT_AT = 36;
const FLAGS_AT = 53;
const TRACE_ID_BYTES = 16;
const SPAN_ID_BYTES = 8;
const DASH = 0x2d;
const ZERO = 0x30;
/** Last digits of flags with the one that we know: sampled. */
const SAMPLED_DIGITS = '13579bdf';

const HEX_DIGITS = Buffer.from('0123456789abcdef', 'latin1');
/** 1 for a digit in lower case. A table without a branch takes a third of the time of comparisons, where every request has one to be read. */
const IS_HEX = new Uint8Array(256);
for (const digit of HEX_DIGITS) IS_HEX[digit] = 1;

function isHex(text: string, from: number, to: number): boolean {
  let hex = 1;
  let all = 0;
  for (let i = from; i < to; i++) {
    const code = text.charCodeAt(i);
    all |= code;
    hex &= IS_HEX[code & 0xff] ?? 0;
  }
  return hex === 1 && all <= 0xff;
}

function isZero(text: string, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (text.charCodeAt(i) !== ZERO) return false;
  return true;
}

/**
 * Strictly (W3C Trace Context, 3.2): lower-case hexadecimal, no all-zero IDs, not version ff; of a version above 00 what is known of it. Null where it is
 * not well-formed, as for several such headers: the trace then begins anew.
 */
export function parseTraceparent(text: string): TraceParent | null {
  const { length } = text;
  if (length < LENGTH || !isHex(text, 0, 2) || text.startsWith('ff')) return null;
  if (length > LENGTH && (text.startsWith('00') || text.charCodeAt(LENGTH) !== DASH)) return null;
  const dashes = text.charCodeAt(2) === DASH && text.charCodeAt(35) === DASH && text.charCodeAt(52) === DASH;
  if (!dashes || !isHex(text, TRACE_AT, 35) || !isHex(text, PARENT_AT, 52) || !isHex(text, FLAGS_AT, LENGTH))
    return null;
  if (isZero(text, TRACE_AT, 35) || isZero(text, PARENT_AT, 52)) return null;
  return {
    traceId: text.slice(TRACE_AT, TRACE_AT + 2 * TRACE_ID_BYTES),
    parentId: text.slice(PARENT_AT, PARENT_AT + 2 * SPAN_ID_BYTES),
    sampled: SAMPLED_DIGITS.includes(text.charAt(LENGTH - 1)),
  };
}

/** Whether it is just what `formatTraceparent` would make: version 00, and no flag but the one we know. */
function isPlain(text: string, sampled: boolean): boolean {
  return text.length === LENGTH && text.startsWith('00') && text.endsWith(sampled ? '-01' : '-00');
}

/** Always version 00, which is the one we know. */
export function formatTraceparent(traceId: string, spanId: string, sampled: boolean): string {
  return `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;
}

const UINT32 = 2 ** 32;

/** The `traceparent` being made: one piece of memory, one string. */
const made = Buffer.from(
  formatTraceparent('0'.repeat(2 * TRACE_ID_BYTES), '0'.repeat(2 * SPAN_ID_BYTES), false),
  'latin1',
);

/** `RandomPool` of proxy/native, or of a test: `take` says where fresh bytes begin in `bytes`. */
export interface RandomBytes {
  readonly bytes: Buffer;
  take(length: number): number;
}

/** Makes the trace contexts of a worker. */
export class TraceSource {
  readonly #sampling: number | null;
  readonly #random: RandomBytes;

  /** @param sampling share of the traces begun here that are recorded, 0 to 1; null: no spans are made at all */
  constructor(sampling: number | null, random: RandomBytes) {
    this.#sampling = sampling;
    this.#random = random;
  }

  /** Continues the caller's trace, whose own decision on sampling holds, or begins one. A hop that records no span passes the caller's on. */
  next(traceparent: string | null): TraceContext {
    const caller = traceparent === null ? null : parseTraceparent(traceparent);
    if (caller === null) return this.#begin();
    const { traceId, parentId, sampled } = caller;
    const spanId = this.#sampling !== null && sampled ? this.#hex(SPAN_ID_BYTES) : null;
    return {
      traceId,
      parentSpanId: parentId,
      spanId,
      // Mostly it is passed on as it came.
      traceparent:
        spanId === null && traceparent !== null && isPlain(traceparent, sampled)
          ? traceparent
          : formatTraceparent(traceId, spanId ?? parentId, sampled),
      carried: true,
    };
  }

  #begin(): TraceContext {
    this.#fill(TRACE_AT, TRACE_ID_BYTES);
    this.#fill(PARENT_AT, SPAN_ID_BYTES);
    const sampled = this.#sampling !== null && this.#share() < this.#sampling;
    made[LENGTH - 1] = sampled ? ZERO + 1 : ZERO;
    const traceparent = made.latin1Slice(0, LENGTH);
    return {
      traceId: traceparent.slice(TRACE_AT, TRACE_AT + 2 * TRACE_ID_BYTES),
      parentSpanId: null,
      spanId: sampled ? traceparent.slice(PARENT_AT, PARENT_AT + 2 * SPAN_ID_BYTES) : null,
      traceparent,
      carried: false,
    };
  }

  /** Random bytes in hexadecimal at that place of `made`. */
  #fill(place: number, length: number): void {
    const at = this.#random.take(length);
    const { bytes } = this.#random;
    for (let i = 0; i < length; i++) {
      const byte = bytes[at + i] ?? 0;
      made[place + 2 * i] = HEX_DIGITS[byte >>> 4] ?? 0;
      made[place + 2 * i + 1] = HEX_DIGITS[byte & 15] ?? 0;
    }
  }

  /** All zeros would be no ID, and come once in 2^64. */
  #hex(length: number): string {
    const at = this.#random.take(length);
    return this.#random.bytes.toString('hex', at, at + length);
  }

  /** From 0 to below 1. */
  #share(): number {
    const at = this.#random.take(4);
    return this.#random.bytes.readUInt32LE(at) / UINT32;
  }
}
