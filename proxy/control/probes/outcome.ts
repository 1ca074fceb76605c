import { isIPv6 } from 'node:net';

/** What became of a probe. */
export interface Outcome {
  readonly ok: boolean;
  /** A few words, none of them the application's. */
  readonly why: string;
}

export const failed = (why: string): Outcome => ({ ok: false, why });

/** Of a URL. */
export const hostOf = (address: string): string => (isIPv6(address) ? `[${address}]` : address);
