/** The errno(3) values that the data plane tells apart (Linux, the same on x64 and arm64). */
export const Errno = {
  EPERM: 1,
  EINTR: 4,
  EAGAIN: 11,
  EACCES: 13,
  ENFILE: 23,
  EMFILE: 24,
  EPIPE: 32,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETUNREACH: 101,
  ECONNABORTED: 103,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTUNREACH: 113,
  EINPROGRESS: 115,
} as const;

const NAMES = new Map<number, string>(Object.entries(Errno).map(([name, code]) => [code, name]));

export function errnoName(code: number): string {
  return NAMES.get(code) ?? `errno ${code}`;
}
