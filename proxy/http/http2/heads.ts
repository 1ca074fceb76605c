import type { HeaderList } from '../../protocol/hpack/header-list.ts';
import type { LocalReply, RequestHead, ResponseHead } from '../../protocol/http-head.ts';
import { isAdmissibleValue } from '../../protocol/http1/grammar.ts';
import { isSendableTarget } from '../../protocol/http1/request-target.ts';
import { appendFields, type Field, Http2Fields } from './fields.ts';

export type Scheme = 'http' | 'https';

/** What `request-rules.ts` has read. */
export interface RequestFacts {
  readonly method: string;
  /** Empty for CONNECT. */
  readonly target: string;
  readonly authority: string;
  readonly scheme: Scheme;
  readonly contentLength: number | null;
  readonly receivedBytes: number;
}

export class Http2RequestHead extends Http2Fields implements RequestHead {
  readonly version = 'h2';
  readonly upgrade = null;
  readonly method: string;
  readonly authority: string;
  readonly scheme: Scheme;
  readonly contentLength: number | null;
  readonly receivedBytes: number;
  #target: string;

  constructor(facts: RequestFacts, lines: Field[]) {
    super(lines);
    this.method = facts.method;
    this.authority = facts.authority;
    this.scheme = facts.scheme;
    this.contentLength = facts.contentLength;
    this.receivedBytes = facts.receivedBytes;
    this.#target = facts.target;
  }

  get target(): string {
    return this.#target;
  }

  /** @throws RangeError where it is none in origin form or `*` */
  setTarget(target: string): void {
    if (!isSendableTarget(target)) throw new RangeError('not admissible as a target');
    this.#target = target;
  }
}

export class Http2ResponseHead extends Http2Fields implements ResponseHead {
  readonly version = 'h2';
  readonly status: number;
  readonly contentLength: number | null;
  readonly receivedBytes: number;

  constructor(status: number, contentLength: number | null, receivedBytes: number, lines: Field[]) {
    super(lines);
    this.status = status;
    this.contentLength = contentLength;
    this.receivedBytes = receivedBytes;
  }
}

function appendLength(list: Field[], length: number | null): void {
  if (length !== null) list.push(['content-length', String(length)]);
}

/** The header list of any request (RFC 9113, 8.3.1). */
export function requestList(head: RequestHead): HeaderList {
  const list: Field[] = [[':method', head.method]];
  if (head.method !== 'CONNECT') {
    list.push([':scheme', head instanceof Http2RequestHead ? head.scheme : 'http'], [':path', head.target]);
  }
  list.push([':authority', head.authority]);
  appendFields(list, head);
  appendLength(list, head.contentLength);
  return list;
}

/** The header list of any response. */
export function responseList(head: ResponseHead): HeaderList {
  const list: Field[] = [[':status', String(head.status)]];
  appendFields(list, head);
  appendLength(list, head.contentLength);
  return list;
}

/** The header list of a response of our own. @param length of its body in bytes; null: none is told */
export function replyList(reply: LocalReply, length: number | null): HeaderList {
  const list: Field[] = [[':status', String(reply.status)]];
  for (const [name, value] of reply.headers) {
    // What could not be sent as it is would be something else.
    if (isAdmissibleValue(value)) list.push([name.toLowerCase(), value]);
  }
  appendLength(list, length);
  return list;
}
