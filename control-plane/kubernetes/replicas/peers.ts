import { X509Certificate } from 'node:crypto';
import type { PeerCertificate } from 'node:tls';
import type { Logger } from 'pino';
import { Client } from 'undici';
import { messageOf } from '../../../mesh/errors.ts';
import { describeCertificate } from '../../../mesh/x509/certificate.ts';
import { formatListenAddress, type ListenAddress } from '../../addresses.ts';
import type { AcknowledgementResult } from '../../ca/rotation.ts';
import type { Enforcement } from '../../push/enforcement.ts';
import type { ServerCredentials } from '../../server/tls-listener.ts';
import { rootDigest } from './replica-handler.ts';
import {
  addEnforcement,
  MAX_REPORT_BYTES,
  REPLICA_PATH,
  type ReplicaQuestion,
  type ReplicaReport,
  readReport,
} from './report.ts';

export interface Peer {
  readonly pod: string;
  readonly address: ListenAddress;
}

export interface PeersOptions {
  /** The other replicas that are running, as the API knows them now. */
  readonly peers: () => readonly Peer[];
  /** The control plane's SPIFFE ID: ours, and theirs. */
  readonly identity: string;
  readonly credentials: () => ServerCredentials;
  /** PEM. */
  readonly roots: () => readonly string[];
  readonly log: Pick<Logger, 'warn'>;
}

/** A replica's answer, or why there is none. */
export type PeerAnswer =
  | { readonly pod: string; readonly report: ReplicaReport }
  | { readonly pod: string; readonly report: null; readonly failure: string };

const TIMEOUT_MS = 5_000;
const POLL_MS = 1_000;
const MAX_PEERS = 64;

/** Asks the other replicas over mutual TLS. Each question is a connection of its own: they are rare, and peers come and go. */
export class Peers {
  readonly #options: PeersOptions;

  constructor(options: PeersOptions) {
    this.#options = options;
  }

  /** Of every replica that is running, in any order. Never rejects. */
  async ask(question: ReplicaQuestion, signal: AbortSignal): Promise<readonly PeerAnswer[]> {
    const peers = this.#options.peers().slice(0, MAX_PEERS);
    return await Promise.all(
      peers.map(async ({ pod, address }): Promise<PeerAnswer> => {
        try {
          return { pod, report: await this.#askOne(address, question, signal) };
        } catch (error) {
          return { pod, report: null, failure: messageOf(error) };
        }
      }),
    );
  }

  /**
   * Waits until the sidecars of all other replicas have acknowledged these roots, or `signal` aborts. A replica that does not answer may have sidecars
   * that have not: it counts as missing.
   */
  async awaitTrust(roots: readonly string[], signal: AbortSignal): Promise<AcknowledgementResult> {
    const question = { roots: roots.map(rootDigest), sidecars: false, policies: false };
    for (;;) {
      const answers = await this.ask(question, AbortSignal.timeout(TIMEOUT_MS));
      const missing = answers.flatMap(missingOf);
      if (missing.length === 0 || signal.aborted) {
        return { connected: answers.reduce((sum, { report }) => sum + (report?.connected ?? 0), 0), missing };
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** What the sidecars of all other replicas have in force; null where one of them did not say. */
  async enforcement(signal: AbortSignal): Promise<ReadonlyMap<string, Enforcement> | null> {
    const answers = await this.ask({ roots: [], sidecars: false, policies: true }, signal);
    const total = new Map<string, Enforcement>();
    for (const answer of answers) {
      if (answer.report === null) {
        this.#options.log.warn(
          { replica: answer.pod },
          `a replica does not say what its sidecars enforce: ${answer.failure}`,
        );
        return null;
      }
      for (const [key, one] of Object.entries(answer.report.policies ?? {}))
        total.set(key, addEnforcement(total.get(key), one));
    }
    return total;
  }

  async #askOne(address: ListenAddress, question: ReplicaQuestion, signal: AbortSignal): Promise<ReplicaReport> {
    const { credentials, roots, identity } = this.#options;
    const { chain, privateKey } = credentials();
    const client = new Client(`https://${formatListenAddress(address)}`, {
      connect: {
        ca: [...roots()],
        cert: chain,
        key: privateKey,
        minVersion: 'TLSv1.3',
        timeout: TIMEOUT_MS,
        checkServerIdentity: (_host: string, certificate: PeerCertificate) => checkIdentity(certificate, identity),
      },
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
      maxResponseSize: MAX_REPORT_BYTES,
    });
    try {
      const { statusCode, body } = await client.request({
        method: 'POST',
        path: REPLICA_PATH,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(question),
        signal: AbortSignal.any([signal, AbortSignal.timeout(2 * TIMEOUT_MS)]),
      });
      if (statusCode !== 200) {
        await body.dump({ limit: 64 * 1024 });
        throw new Error(`it answered ${statusCode}`);
      }
      return readReport(await body.json());
    } finally {
      await client.destroy();
    }
  }
}

function missingOf(answer: PeerAnswer): readonly string[] {
  if (answer.report === null) return [`all sidecars of the replica ${answer.pod} (${answer.failure})`];
  const { count, names } = answer.report.untrusting;
  return count > names.length ? [...names, `${count - names.length} more of ${answer.pod}`] : names;
}

function checkIdentity(certificate: PeerCertificate, identity: string): Error | undefined {
  const found = describeCertificate(new X509Certificate(certificate.raw)).spiffeId;
  return found === identity
    ? undefined
    : new Error(`it shows the identity ${found ?? 'none'}, not the control plane's`);
}
