import { receiveMessageOnPort } from 'node:worker_threads';
import { messageOf, PosternError } from '../../mesh/errors.ts';
import type { RejectedResource } from '../../mesh/resources.ts';
import { telemetryFields } from '../../mesh/telemetry-labels.ts';
import { AccessLog } from '../connection/access-log.ts';
import type { DataPlane } from '../connection/data-plane.ts';
import { MeshTls } from '../connection/mesh-tls.ts';
import { ownWorkload } from '../connection/own-workload.ts';
import { type Party, partyOf } from '../connection/party.ts';
import { RequestSeries } from '../connection/request-series.ts';
import { SeriesBank } from '../connection/series.ts';
import { SpanLog } from '../connection/span-log.ts';
import { ConnectionTable } from '../connection/table.ts';
import { TraceSource } from '../connection/trace-context.ts';
import { WorkerMetrics } from '../connection/worker-metrics.ts';
import { StagingPool } from '../http2/staging.ts';
import { Application } from '../inbound/application.ts';
import { ApplicationConnection } from '../inbound/application-connection.ts';
import { ApplicationPools } from '../inbound/application-pools.ts';
import { Authorizer } from '../inbound/authorizer.ts';
import { PortProtocols } from '../inbound/port-protocols.ts';
import { RedirectedServer } from '../inbound/redirected-server.ts';
import type { InboundServices } from '../inbound/services.ts';
import { TokenAuthenticator } from '../inbound/token-authenticator.ts';
import { TunnelServer } from '../inbound/tunnel-server.ts';
import { checkPlatform } from '../native/library.ts';
import { releaseFreeMemory } from '../native/memory.ts';
import { RandomPool } from '../native/random.ts';
import { OutboundServer } from '../outbound/outbound-server.ts';
import { TunnelPool } from '../outbound/tunnel-pool.ts';
import { formatBaggage } from '../protocol/baggage.ts';
import { MeshView, type ViewVersions } from '../protocol/mesh-view.ts';
import { Loop } from '../reactor/loop.ts';
import { Timer } from '../reactor/timers.ts';
import { HeapMode, V8_HEAP } from './heap-mode.ts';
import { openListener } from './listen.ts';
import { WorkerLog } from './log.ts';
import type { FromWorker, ToWorker, WorkerQuestion, WorkerStart } from './messages.ts';
import { checkPolicy, checkRoot } from './resource-checks.ts';

const TICK_MS = 1_000;
/** How often live connections tell their bytes, in ticks. */
const REPORT_TICKS = 5;
const SWEEP_TICKS = 30;
/** What a burst has left behind goes back to the kernel, in ticks. */
const TRIM_TICKS = 120;
/** Connections listed for the admin port at most. */
const MAX_LISTED = 1_000;

/** The composition root of a data-plane thread: makes the parts, hands them what the control thread sends, and turns the loop. */
export class DataPlaneWorker {
  readonly #start: WorkerStart;
  readonly #loop: Loop;
  readonly #log: WorkerLog;
  readonly #plane: DataPlane;
  readonly #inbound: InboundServices;
  readonly #pool: TunnelPool;
  readonly #outbound: OutboundServer;
  #tunnels: TunnelServer | null = null;
  #redirected: RedirectedServer | null = null;
  #draining = false;
  readonly #tick = new Timer(() => this.#onTick());
  readonly #heapMode = new HeapMode(V8_HEAP);
  readonly #drainDeadline = new Timer(() => this.#finishDrain());
  #ticks = 0;

  constructor(start: WorkerStart) {
    this.#start = start;
    const { config } = start;
    const now = (): number => this.#loop.now;
    const post = (message: FromWorker): void => this.#post(message);
    this.#loop = new Loop(
      start.descriptors,
      () => this.#receive(),
      (error) => this.#fault(error),
    );
    this.#log = new WorkerLog(config.logLevel, post, now);
    const log = this.#log;
    const unixNow = (): number => Date.now();
    const view = new MeshView((policy) => checkPolicy(policy, ownWorkload({ view, config })), checkRoot);
    const series = new SeriesBank(start.counters, post);
    const metrics = new WorkerMetrics(series, now);
    const random = new RandomPool();
    const { name, namespace, labels } = config.workload;
    const own = (): Party => {
      const known = view.registry.workload(`${namespace}/${name}`);
      return partyOf(known, this.#plane.tls.identity?.spiffeId ?? null);
    };
    this.#plane = {
      loop: this.#loop,
      config,
      view,
      tls: new MeshTls(view, unixNow),
      staging: new StagingPool(),
      table: new ConnectionTable(),
      series,
      metrics,
      accessLog: new AccessLog(this.#loop, post, () => metrics.accessLogDropped()),
      requestSeries: new RequestSeries(series),
      random,
      traces: new TraceSource(config.tracing?.sampling ?? null, random),
      spans: new SpanLog(this.#loop, unixNow, post, () => metrics.spanDropped()),
      self: own,
      baggage: formatBaggage({ namespace, ...telemetryFields(labels, name) }),
      unixNow,
      log: (level, msg, fields) => log.write(level, msg, fields),
      get debug() {
        return log.debug;
      },
    };
    this.#inbound = {
      authorizer: new Authorizer(this.#plane),
      tokens: new TokenAuthenticator(this.#plane),
      application: new Application(config, now),
      pools: new ApplicationPools(
        { loop: this.#loop, metrics, limits: config.http },
        (place, owner) => new ApplicationConnection(this.#plane, place, owner),
      ),
      ports: new PortProtocols(this.#plane),
    };
    this.#pool = new TunnelPool(this.#plane);
    this.#outbound = new OutboundServer(
      this.#plane,
      this.#pool,
      () => this.#mayAccept(),
      (address) => this.#inbound.application.isOwn(address),
    );
  }

  #post(message: FromWorker): void {
    this.#start.port.postMessage(message);
  }

  #mayAccept(): boolean {
    return !this.#draining && this.#plane.table.size < this.#start.config.limits.maxConnections;
  }

  /** Opens the listeners and turns the loop until `stop`. */
  run(): void {
    try {
      checkPlatform();
      this.#listen();
    } catch (error) {
      const code = error instanceof PosternError ? error.code : 'ERR_WORKER_START';
      this.#post({ type: 'fatal', code, message: messageOf(error) });
      this.#loop.destroy();
      return;
    }
    this.#loop.arm(this.#tick, TICK_MS);
    this.#post({ type: 'ready', eventFd: this.#loop.eventFd });
    this.#receive();
    this.#loop.run();
    this.#loop.destroy();
  }

  #listen(): void {
    const { inbound, outbound, upstreams } = this.#start.config;
    const mayAccept = (): boolean => this.#mayAccept();
    openListener('inbound.tunnel', inbound.tunnel, (at) => {
      this.#tunnels = new TunnelServer(this.#plane, this.#inbound, at, mayAccept);
    });
    openListener('inbound.listen', inbound.listen, (at) => {
      this.#redirected = new RedirectedServer(this.#plane, this.#inbound, at, mayAccept);
    });
    openListener('outbound.listen', outbound.listen, (at) => this.#outbound.listenRedirected(at));
    for (const { listen, service, port } of upstreams) {
      openListener(`upstream ${service}:${port}`, listen, (at) => this.#outbound.listenUpstream(at, service, port));
    }
  }

  #receive(): void {
    for (
      let received = receiveMessageOnPort(this.#start.port);
      received !== undefined;
      received = receiveMessageOnPort(this.#start.port)
    ) {
      try {
        this.#onMessage(received.message as ToWorker);
      } catch (error) {
        // The next message must not wait for another wake-up.
        this.#fault(error);
      }
    }
  }

  #onMessage(message: ToWorker): void {
    switch (message.type) {
      case 'identity':
        this.#plane.tls.setIdentity(message);
        // Streams of the old certificate's tunnels live on; new ones go to new tunnels.
        this.#pool.rotate();
        this.#outbound.reconsider();
        break;
      case 'resources':
        this.#post({ type: 'applied', version: message.version, rejected: this.#apply(message) });
        this.#heapMode.started();
        break;
      case 'control-plane':
        this.#outbound.useControlPlane(message.addresses);
        break;
      case 'drain-inbound':
        this.#plane.table.drainInbound();
        this.#tunnels?.drain();
        break;
      case 'drain':
        this.#drain(message.deadlineMs);
        break;
      case 'log-level':
        this.#log.level = message.level;
        break;
      case 'query':
        this.#post({ type: 'reply', id: message.id, data: this.#answer(message.what) });
        break;
    }
  }

  #apply(delta: Extract<ToWorker, { type: 'resources' }>): RejectedResource[] {
    const { view, tls, table } = this.#plane;
    const before: ViewVersions = { ...view.versions };
    const rejected = view.applyDelta(delta);
    const { versions } = view;
    const trust = versions.trustBundle !== before.trustBundle || versions.revocations !== before.revocations;
    // RequestAuthentications say how policies read claims.
    const policies =
      versions.policies !== before.policies ||
      versions.tokens !== before.tokens ||
      versions.meshConfig !== before.meshConfig;
    if (trust) {
      try {
        tls.trustChanged();
      } catch (error) {
        rejected.push({ key: 'TrustBundle/roots', reason: messageOf(error) });
      }
    }
    this.#each(() => this.#inbound.tokens.refresh());
    if (policies) this.#each(() => this.#inbound.authorizer.refresh());
    if (trust || policies) {
      // Streams first: each is told why it ends; then the tunnels of peers that are not trusted any more.
      this.#each(
        () => table.reconsiderAll((error) => this.#fault(error)),
        () => this.#tunnels?.reconsider(),
        () => this.#pool.reconsider(),
        () => this.#outbound.reconsider(),
      );
    }
    return rejected;
  }

  /** NEVER keeps an exception in one step a policy or a revocation from the others. */
  #each(...steps: readonly (() => void)[]): void {
    for (const step of steps) {
      try {
        step();
      } catch (error) {
        this.#fault(error);
      }
    }
  }

  #answer(what: WorkerQuestion): unknown {
    if (what === 'load') return this.#plane.table.load();
    if (what === 'resources') return [...this.#plane.view.resources()];
    const listed: unknown[] = [];
    for (const connection of this.#plane.table.values()) {
      if (listed.length === MAX_LISTED) break;
      const {
        level: _level,
        time: _time,
        msg: _msg,
        ...facts
      } = connection.record.describe('-', '', connection.bytesForward(), connection.bytesBack()) as {
        level: unknown;
        time: unknown;
        msg: unknown;
      };
      listed.push(facts);
    }
    return { total: this.#plane.table.size, connections: listed };
  }

  #onTick(): void {
    this.#ticks++;
    const { series, metrics, table } = this.#plane;
    metrics.loopLag(this.#loop.takeLongestTurn() / 1000);
    this.#heapMode.report(this.#loop.takeBusy() / TICK_MS);
    if (this.#ticks % REPORT_TICKS === 0) table.reportAll();
    if (this.#ticks % SWEEP_TICKS === 0) {
      series.sweep(this.#loop.now);
      this.#outbound.sweep();
    }
    if (this.#ticks % TRIM_TICKS === 0) {
      this.#plane.staging.trim();
      releaseFreeMemory();
    }
    const unsent = this.#loop.undelivered > 0 || this.#pool.hasUnsent || this.#tunnels?.hasUnsent === true;
    if (this.#draining && table.size === 0 && !unsent) this.#finishDrain();
    else this.#loop.arm(this.#tick, this.#draining ? TICK_MS / 10 : TICK_MS);
  }

  #drain(deadlineMs: number): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#tunnels?.stopListening();
    this.#redirected?.stopListening();
    this.#outbound.stopListening();
    this.#tunnels?.drain();
    this.#plane.table.drainAll();
    this.#loop.arm(this.#drainDeadline, deadlineMs);
    this.#loop.arm(this.#tick, TICK_MS / 10);
  }

  #finishDrain(): void {
    this.#loop.cancel(this.#drainDeadline);
    this.#loop.cancel(this.#tick);
    const forced = this.#plane.table.terminateAll('DRAIN', 'closed at the drain deadline');
    this.#inbound.pools.close('drained');
    this.#pool.drain();
    this.#tunnels?.close('drained');
    this.#plane.accessLog.flush();
    this.#plane.spans.flush();
    this.#loop.later(() => {
      this.#post({ type: 'drained', forced });
      this.#loop.stop();
    });
  }

  /** An exception that a handler let out: a bug. The connection it concerned has been ended; the others do not notice. */
  #fault(error: unknown): void {
    this.#plane.metrics.internalError();
    const stack = error instanceof Error ? error.stack : String(error);
    this.#log.write('error', 'internal error: please report it with this stack', { stack });
  }
}
