/** What the demo and its applications say to each other: lines of JSON. */

/** What an application asks another. */
export interface Ask {
  readonly method: string;
  readonly path: string;
  /** Sent as a header: a text to look for on the wire. */
  readonly note: string;
  /** The user's, sent as `Authorization: Bearer`; null: none. */
  readonly token: string | null;
}

export interface AppCommand extends Ask {
  readonly id: number;
  readonly host: string;
  readonly port: number;
  /** A connection that stays open with a line every now and then, until somebody cuts it. */
  readonly stream: boolean;
  readonly timeoutMs: number;
}

export interface CallResult {
  readonly type: 'done';
  readonly id: number;
  /** Of the HTTP answer; null where there was none. */
  readonly status: number | null;
  readonly body: string;
  readonly error: string | null;
  readonly ms: number;
  /** Unix time, milliseconds. */
  readonly at: number;
}

export type AppEvent =
  | { readonly type: 'listening' }
  /** The first bytes of a stream are there. */
  | { readonly type: 'open'; readonly id: number }
  | CallResult;
