/** What of a request's head tokens are read from and written to: `RequestHead` has all of it. Names are in lower case. */
export interface TokenHead {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly authority: string;
  setTarget(target: string): void;
  get(name: string): string | null;
  all(name: string): readonly string[];
  remove(name: string): void;
  removeWhere(predicate: (name: string) => boolean): void;
  set(name: string, value: string): void;
}

/** A CORS preflight carries no credentials (Fetch, 4.8): it is not asked for any. */
export function isPreflight(head: TokenHead): boolean {
  return head.method === 'OPTIONS' && !isEmpty(head, 'origin') && !isEmpty(head, 'access-control-request-method');
}

function isEmpty(head: TokenHead, name: string): boolean {
  return (head.get(name) ?? '') === '';
}
