/** Where something listens; IPv4. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export const hostPort = ({ address, port }: Endpoint): string => `${address}:${port}`;

/**
 * A pair of proxies under comparison: applications' plaintext comes in at `clientAddress`, crosses mutual TLS, and goes out to the backend.
 * Both proxies run on the proxy core.
 */
export interface Contender {
  readonly name: string;
  /** Client-side proxy first, server-side second. Valid after `start`. */
  readonly pids: readonly [client: number, server: number];
  readonly clientAddress: Endpoint;
  /** Resolves when a connection can pass. @throws PosternError with what the processes said, where they do not get there. */
  start(): Promise<void>;
  /** Housekeeping between measurements, outside them. @throws PosternError where one of its processes has ended. */
  settle(): Promise<void>;
  stop(): Promise<void>;
}

/** One that understands HTTP: it refuses `FORBIDDEN_PATH` and keeps connections alive on every side. */
export interface HttpContender extends Contender {
  /** Where HTTP/2 without TLS comes in, by prior knowledge; null where it carries none to the backend. */
  readonly h2Address: Endpoint | null;
}
