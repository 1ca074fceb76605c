import type { SpanData } from '../worker/messages.ts';

/** An attribute's value in OTLP's JSON: 64-bit integers are text there. */
type AnyValue =
  | { readonly stringValue: string }
  | { readonly boolValue: boolean }
  | { readonly intValue: string }
  | { readonly doubleValue: number };

export type AttributeValues = { readonly [key: string]: string | number | boolean };

/** opentelemetry-proto, trace/v1: Span.SpanKind. */
const KINDS = { server: 2, client: 3 } as const;
/** Status.StatusCode. */
const STATUS_ERROR = 2;

function anyValue(value: string | number | boolean): AnyValue {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
}

const attributesOf = (values: AttributeValues): readonly { readonly key: string; readonly value: AnyValue }[] =>
  Object.entries(values).map(([key, value]) => ({ key, value: anyValue(value) }));

const spanOf = (span: SpanData): object => ({
  traceId: span.traceId,
  spanId: span.spanId,
  ...(span.parentSpanId === null ? {} : { parentSpanId: span.parentSpanId }),
  name: span.name,
  kind: KINDS[span.kind],
  startTimeUnixNano: span.start,
  endTimeUnixNano: span.end,
  attributes: attributesOf(span.attributes),
  status: span.failed ? { code: STATUS_ERROR } : {},
});

/** The body of a request to `/v1/traces`: ExportTraceServiceRequest in OTLP's JSON (OTLP 1.5, "JSON Protobuf Encoding"). */
export function exportRequest(
  resource: AttributeValues,
  scope: { name: string; version: string },
  spans: readonly SpanData[],
): string {
  return JSON.stringify({
    resourceSpans: [
      { resource: { attributes: attributesOf(resource) }, scopeSpans: [{ scope, spans: spans.map(spanOf) }] },
    ],
  });
}

/** How many spans of an accepted request the collector says it has thrown away; 0 where its answer says nothing of it. */
export function rejectedSpans(answer: string): number {
  try {
    const body = JSON.parse(answer) as { partialSuccess?: { rejectedSpans?: unknown } } | null;
    const count = Number(body?.partialSuccess?.rejectedSpans ?? 0);
    return Number.isSafeInteger(count) && count > 0 ? count : 0;
  } catch {
    return 0;
  }
}
