import type { Decision } from '../../policy/types.ts';
import type { Address } from '../native/socket.ts';
import type { TlsFacts } from '../native/tls-session.ts';
import { timestamp } from './access-log.ts';
import type { Party } from './party.ts';
import type { RequestRecord } from './request-record.ts';

/** Longest text of a client's, or of a peer's, that is logged, in characters. */
const MAX_TEXT = 1024;

/** What JSON needs not escape, and neither does a terminal: printable ASCII without quote and backslash. */
const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;
/** DEL and the C1 controls: JSON lets them stand, a terminal may obey them. */
const CONTROLS = /[\x7f-\x9f]/g;

/** As a JSON string; what is beyond 1,024 characters is left out. */
export function quote(text: string): string {
  const bounded = text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) : text;
  if (PLAIN.test(bounded)) return `"${bounded}"`;
  return JSON.stringify(bounded).replace(CONTROLS, (control) => `\\u00${control.charCodeAt(0).toString(16)}`);
}

const quoteOrNull = (text: string | null): string => (text === null ? 'null' : quote(text));

/** To the hundredth; null where it did not come to that. */
const milliseconds = (ms: number | null): string => (ms === null ? 'null' : String(Math.round(ms * 100) / 100));

/** `"1.2.3.4:80"`, `"[2001:db8::1]:80"`: addresses come from the kernel or the registry. */
const placeOf = ({ address, port }: Address): string =>
  quote(address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);

const partyTexts = new WeakMap<Party, string>();

function partyText(party: Party): string {
  const known = partyTexts.get(party);
  if (known !== undefined) return known;
  const { workload, namespace, principal } = party;
  const made = `"workload":${quote(workload)},"namespace":${quote(namespace)},"principal":${quoteOrNull(principal)}`;
  partyTexts.set(party, made);
  return made;
}

const tlsTexts = new WeakMap<TlsFacts, string>();

function tlsText(tls: TlsFacts | null): string {
  if (tls === null) return 'null';
  const known = tlsTexts.get(tls);
  if (known !== undefined) return known;
  const made = JSON.stringify(tls);
  tlsTexts.set(tls, made);
  return made;
}

function decisionText(decision: Decision | null): string {
  if (decision === null) return '"policy":null,"rule":null,"reason":null';
  const { policy, rule, reason, provider, audit, dryRun } = decision;
  const asked = provider === null ? '' : `,"provider":${quote(provider)}`;
  const audits = audit.length === 0 ? '' : `,"audit":${JSON.stringify(audit)}`;
  const dry = dryRun.allow === null && dryRun.deny === null ? '' : `,"dryRun":${JSON.stringify(dryRun)}`;
  return `"policy":${quoteOrNull(policy)},"rule":${rule},"reason":"${reason}"${asked}${audits}${dry}`;
}

function grpcText({ grpc, grpcStatus, requestMessages, responseMessages }: RequestRecord): string {
  if (!grpc) return '';
  return `"grpcStatus":${grpcStatus},"requestMessages":${requestMessages},"responseMessages":${responseMessages},`;
}

/**
 * The access-log line of a request that has ended, with its newline: the fields of a TCP connection's line and those of HTTP. Put together by hand,
 * with the parts that many requests share kept as text: a flood of denials must be cheap. @param time Unix time, milliseconds
 */
export function requestLine(record: RequestRecord, time: number): string {
  const { service, originalDestination } = record;
  return (
    `{"level":"info","time":"${timestamp(time)}","msg":"access","direction":"${record.direction}","protocol":"${record.grpc ? 'grpc' : 'http'}",` +
    `"transport":"${record.transport}","verdict":"${record.verdict}",${decisionText(record.decision)},` +
    `"source":{"address":${placeOf(record.from)},${partyText(record.source)}},` +
    `"destination":{"address":${placeOf(record.to)},${partyText(record.destination)}},` +
    `"service":${quoteOrNull(service === null ? null : service.hostname)},` +
    `"originalDestination":${originalDestination === null ? 'null' : placeOf(originalDestination)},` +
    `"method":${quote(record.method)},"path":${quote(record.path)},"authority":${quote(record.authority)},` +
    `"version":"${record.version}","status":${record.status},${grpcText(record)}` +
    `"bytesReceived":${record.requestBytes},"bytesSent":${record.responseBytes},` +
    `"durationMs":${milliseconds(record.durationMs)},"upstreamMs":${milliseconds(record.upstreamMs)},` +
    `"ttfbMs":${milliseconds(record.ttfbMs)},"tls":${tlsText(record.tls)},` +
    `"userAgent":${quoteOrNull(record.userAgent)},"requestId":${quoteOrNull(record.requestId)},` +
    `"traceId":${record.trace === null ? 'null' : `"${record.trace.traceId}"`},` +
    `"userPrincipal":${quoteOrNull(record.userPrincipal)},"attempts":${record.attempts},` +
    `"flags":"${record.flags}","detail":${quote(record.detail)}}\n`
  );
}
