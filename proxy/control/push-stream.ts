import type { IncomingMessage } from 'node:http';
import { Backoff } from '../../mesh/backoff.ts';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import { LineSplitter } from '../../mesh/line-splitter.ts';
import { LIMITS, type StreamRequest, type WorkloadRegistration } from '../../mesh/push.ts';
import { type Clock, pause } from './clock.ts';
import { ControlPlaneRefusal } from './control-plane-request.ts';
import type { Log } from './logging.ts';
import { expiresAt } from './renewal.ts';
import { type Delta, parseServerMessage } from './server-message.ts';
import type { Svid } from './svid.ts';

export interface PushStreamOptions {
  readonly client: { openStream(body: StreamRequest, svid: Svid, signal: AbortSignal): Promise<IncomingMessage> };
  readonly registration: WorkloadRegistration;
  readonly proxyVersion: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Version of what the sidecar holds; null: nothing. */
  readonly held: () => string | null;
  /** Resolves once the delta is in force; the stream is not read any further until then, which is what bounds it. */
  readonly apply: (delta: Delta) => Promise<void>;
  readonly onConnected: (connected: boolean) => void;
  /** The control plane wants a new certificate to be used. */
  readonly onRenewalWanted: (why: string) => void;
  readonly heartbeatMs?: number;
}

/** A stream that worked is opened again within this time, at a random moment: another replica may serve, but not all sidecars at once. */
const FIRST_RETRY_MS = 1_000;

/** When a stream moves to a renewed certificate: between these parts of what the old one still has to live, so that not all move at once. */
const SWITCH = { earliest: 0.1, latest: 0.5 };

/**
 * The one stream from the control plane. It reconnects whenever it ends, and of its own accord before its certificate expires; each time it says
 * what it holds. ALWAYS: losing it changes nothing of what is in force.
 */
export class PushStream {
  readonly #options: PushStreamOptions;
  readonly #heartbeatMs: number;
  readonly #stop = new AbortController();
  #svid: Svid | null = null;
  /** Something was heard since the last attempt. */
  #worked = false;
  /** Ends the wait for the first certificate, or the pause before the next attempt. */
  #wake: AbortController | null = null;
  /** The open stream: whose certificate it shows, and how to leave it for a new one. */
  #session: { readonly svid: Svid; readonly leave: AbortController } | null = null;
  #cancelSwitch = (): void => {};

  constructor(options: PushStreamOptions) {
    this.#options = options;
    this.#heartbeatMs = options.heartbeatMs ?? LIMITS.heartbeatMs;
  }

  /** The certificate to use from now on. An open stream moves over to it before its own expires. */
  useSvid(svid: Svid): void {
    const { clock } = this.#options;
    this.#svid = svid;
    this.#wake?.abort();
    const session = this.#session;
    if (session === null) return;
    const left = Math.max(expiresAt(session.svid) - clock.now(), 0);
    const part = SWITCH.earliest + (SWITCH.latest - SWITCH.earliest) * clock.random();
    this.#cancelSwitch();
    this.#cancelSwitch = clock.after(left * part, () => session.leave.abort(new Error('its certificate was renewed')));
  }

  /** Keeps the stream up until `close`; never rejects. */
  async run(): Promise<void> {
    const { clock } = this.#options;
    const backoff = new Backoff({ initialMs: 100, maxMs: 15_000, random: clock.random });
    while (!this.#stop.signal.aborted) {
      if (this.#svid === null) {
        await this.#sleep(3_600_000);
        continue;
      }
      const again = await this.#connect(this.#svid, backoff);
      if (again === 'now') continue;
      const delayMs = this.#worked ? FIRST_RETRY_MS * clock.random() : backoff.next();
      this.#worked = false;
      await this.#sleep(delayMs);
    }
  }

  /** Withdraws the workload's registration. */
  close(): void {
    this.#cancelSwitch();
    this.#stop.abort(new Error('the sidecar is closing'));
    this.#wake?.abort();
  }

  async #sleep(ms: number): Promise<void> {
    this.#wake = new AbortController();
    await pause(this.#options.clock, ms, AbortSignal.any([this.#wake.signal, this.#stop.signal]));
    this.#wake = null;
  }

  async #connect(svid: Svid, backoff: Backoff): Promise<'now' | 'later'> {
    const { client, registration, proxyVersion, held, log, onConnected } = this.#options;
    const leave = new AbortController();
    const signal = AbortSignal.any([leave.signal, this.#stop.signal]);
    const version = held();
    this.#session = { svid, leave };
    try {
      const resume = version === null ? null : { version };
      const response = await client.openStream({ workload: registration, proxyVersion, resume }, svid, signal);
      log.info({ resume: version }, 'connected to the control plane');
      onConnected(true);
      return await this.#read(response, backoff);
    } catch (error) {
      if (leave.signal.aborted) return 'now';
      if (!this.#stop.signal.aborted) this.#report(error);
      return 'later';
    } finally {
      this.#session = null;
      this.#cancelSwitch();
      onConnected(false);
    }
  }

  async #read(response: IncomingMessage, backoff: Backoff): Promise<'now' | 'later'> {
    const silence = new Error(`nothing heard for ${3 * this.#heartbeatMs} ms`);
    const lines = new LineSplitter(LIMITS.lineBytes, 'the control plane');
    const arm = (): (() => void) => this.#options.clock.after(3 * this.#heartbeatMs, () => response.destroy(silence));
    let disarm = arm();
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        disarm();
        for (const line of lines.push(chunk)) {
          const next = await this.#handle(line);
          if (next !== null) return next;
          backoff.reset();
          this.#worked = true;
        }
        disarm = arm();
      }
    } finally {
      disarm();
      response.destroy();
    }
    throw new PosternError('ERR_PUSH_ENDED', 'the control plane closed the stream');
  }

  /** Null: read on. */
  async #handle(line: string): Promise<'now' | 'later' | null> {
    const { apply, log, onRenewalWanted } = this.#options;
    const message = parseServerMessage(line);
    switch (message.type) {
      case 'delta':
        await apply(message.delta);
        return null;
      case 'goodbye':
        log.info({ reason: message.reason, renew: message.renew }, 'the control plane ends the stream');
        if (message.renew) onRenewalWanted(`the control plane asks for it: ${message.reason}`);
        return 'later';
      case 'unknown':
        log.debug({ type: message.name }, 'passed over a message of a type unknown here');
        return null;
      case 'heartbeat':
        return null;
    }
  }

  #report(error: unknown): void {
    const { log, onRenewalWanted } = this.#options;
    const code =
      error instanceof ControlPlaneRefusal
        ? error.reason
        : error instanceof PosternError
          ? error.code
          : 'ERR_PUSH_LOST';
    log.warn(
      { code },
      `no stream from the control plane: ${messageOf(error)}; everything it sent before stays in force`,
    );
    if (error instanceof ControlPlaneRefusal && error.status === 401)
      onRenewalWanted('the control plane does not take the present one');
  }
}
