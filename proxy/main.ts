import { messageOf, PosternError } from '../mesh/errors.ts';
import { CANONICAL_REVISION, firstLabel, telemetryFields } from '../mesh/telemetry-labels.ts';
import { ownVersion } from '../mesh/version.ts';
import { announcedTunnel, listenersOf, type ProxyConfig } from './config.ts';
import { Acknowledger } from './control/acknowledger.ts';
import { type Clock, systemClock } from './control/clock.ts';
import { ControlPlaneClient } from './control/control-plane-client.ts';
import { ControlPlaneConnector } from './control/control-plane-request.ts';
import { adminRoutes, healthRoutes, metricsRoutes } from './control/endpoints.ts';
import { HttpServer } from './control/http-server.ts';
import { Identity } from './control/identity.ts';
import { probeListener } from './control/listen-probe.ts';
import { type Log, Output } from './control/logging.ts';
import { Metrics } from './control/metrics.ts';
import { PushStream } from './control/push-stream.ts';
import { expiresAt } from './control/renewal.ts';
import { ControlPlaneResolver } from './control/resolve.ts';
import { Rollout } from './control/rollout.ts';
import { SeriesTable } from './control/series-table.ts';
import { Settling } from './control/settling.ts';
import { Shutdown } from './control/shutdown.ts';
import { StopSignals } from './control/stop-signals.ts';
import { ResourceStore } from './control/store.ts';
import { Supervisor } from './control/supervisor.ts';
import { SpanExporter } from './control/tracing.ts';
import { ControlPlaneTrust } from './control/trust.ts';
import type { WorkerConfig } from './worker/messages.ts';

export interface ProxyOptions {
  /** The data plane's module; tests give another. */
  readonly workerUrl?: URL;
  readonly clock?: Clock;
  /** Descriptor for log and access-log lines. Default: stdout. */
  readonly outputFd?: number;
}

/**
 * The sidecar, from start to end: resolves to the exit code once it has been asked to stop and everything is closed.
 *
 * @throws PosternError where it cannot start: an address in use, no privilege, a refused join token.
 */
export async function runProxy(config: ProxyConfig, options: ProxyOptions = {}): Promise<number> {
  const sidecar = await assemble(config, options);
  const { log, servers, stream, identity, supervisor, shutdown } = sidecar;
  try {
    log.info({ version: sidecar.version, pid: process.pid, workers: config.workers }, 'starting');
    for (const { what, at, shared } of listenersOf(config)) if (shared) await probeListener(what, at);
    for (const server of servers) await server.listen();

    // Whichever comes first: there is a reason to stop, or the sidecar cannot go on.
    const streaming = stream.run();
    const failure = failed(supervisor.start(), identity.run());
    await Promise.race([shutdown.wanted, failure]);
    const withdraw = async (): Promise<void> => {
      stream.close();
      await streaming;
    };
    return await shutdown.run(withdraw);
  } catch (error) {
    log.error({ code: error instanceof PosternError ? error.code : 'ERR_UNEXPECTED' }, messageOf(error));
    throw error;
  } finally {
    await sidecar.close();
  }
}

/** Makes the parts and tells them of each other; nothing runs yet. */
async function assemble(config: ProxyConfig, options: ProxyOptions) {
  const { clock = systemClock, workerUrl = new URL('./worker/worker.ts', import.meta.url) } = options;
  const { workload } = config;
  const version = ownVersion();
  const trust = new ControlPlaneTrust(config.controlPlane.caFile, config.trustDomain);
  const output = new Output({
    level: config.logLevel,
    base: { proxy: `${workload.namespace}/${workload.name}` },
    ...(options.outputFd === undefined ? {} : { fd: options.outputFd }),
  });
  const log = output.logger;
  const signals = new StopSignals();
  const state = { connected: false };

  const resolver = new ControlPlaneResolver({
    origin: config.controlPlane.address,
    clock,
    onChange: (addresses) => {
      log.info({ addresses }, 'the control plane is to be found elsewhere');
      supervisor.useControlPlane(addresses);
    },
  });
  const store = new ResourceStore();
  const series = new SeriesTable(clock, log);
  const rollout = new Rollout({ store, clock, log });
  const settling = new Settling(clock);
  const spans = spanExporter(config, version, clock, log);
  const supervisor = new Supervisor({
    workerUrl,
    workers: config.workers,
    config: { ...workerConfig(config), controlPlane: await resolver.first() },
    rollout,
    series,
    output,
    onSpans: (finished) => spans?.add(finished),
    clock,
  });

  const connector = new ControlPlaneConnector(config.controlPlane.address, trust, resolver.lookup);
  const client = new ControlPlaneClient(connector, trust);
  const { ttlMs } = config.certificate;
  const identity = new Identity({
    workload,
    joinTokenFile: config.controlPlane.joinTokenFile,
    serviceAccountTokenFile: config.controlPlane.serviceAccountTokenFile,
    ttlSeconds: ttlMs === null ? null : Math.ceil(ttlMs / 1000),
    authority: client,
    trust,
    clock,
    log,
    onSvid: (svid) => {
      const { spiffeId, serial, notAfter } = svid;
      log.info({ spiffeId, serial, notAfter: new Date(notAfter).toISOString() }, 'new certificate');
      supervisor.useSvid(svid);
      stream.useSvid(svid);
    },
  });
  const acknowledger = new Acknowledger({
    send: async (ack, signal) => {
      if (identity.current !== null) await client.acknowledge(ack, identity.current, signal);
    },
    clock,
    log,
  });
  const stream = new PushStream({
    client,
    registration: { ...workload, tunnel: announcedTunnel(config) },
    proxyVersion: version,
    clock,
    log,
    held: () => store.version,
    apply: async (delta) => {
      await rollout.apply(delta);
      const roots = store.roots();
      trust.setRoots(roots);
      identity.followRoots(roots);
      const { version: pushed, full, upserts, removes } = delta;
      log.info({ version: pushed, full, upserts: upserts.length, removes: removes.length }, 'push applied');
      acknowledger.acknowledge({ workload: workload.name, version: pushed, rejected: store.rejected() });
      if (store.applicationEnded) shutdown.applicationEnded();
      settling.started();
    },
    onConnected: (connected) => {
      state.connected = connected;
    },
    onRenewalWanted: (why) => identity.renewSoon(why),
  });

  const shutdown = new Shutdown({
    drainTimeoutMs: config.drainTimeoutMs,
    keepOutbound: config.drain.keepOutbound,
    signals,
    supervisor,
    clock,
    log,
  });

  const metrics = new Metrics(series, () => ({
    version,
    certificateExpiresAt: identity.current === null ? null : expiresAt(identity.current),
    connected: state.connected,
    pushVersion: store.version,
    pushAge: store.changedAt === null ? null : clock.now() - store.changedAt,
    rejectedResources: store.rejected().length,
    workerRestarts: supervisor.restarts,
    droppedLines: output.droppedLines,
    exportedSpans: spans?.exported ?? 0,
    droppedSpans: spans?.dropped ?? 0,
  }));
  const readiness = () => ({
    certificate: identity.valid,
    certificateFailure: identity.failure,
    resources: store.version !== null,
    listeners: supervisor.serving,
    draining: shutdown.draining,
  });
  const admin = adminRoutes({
    config,
    version,
    store,
    supervisor,
    output,
    svid: () => identity.current,
    connected: () => state.connected,
    drain: () => signals.requestDrain(),
    drainInbound: () => shutdown.drainInbound(),
  });
  const servers = [
    new HttpServer({ what: 'admin.listen', at: config.admin.listen, routes: admin, guarded: true, log }),
    new HttpServer({
      what: 'metrics.listen',
      at: config.metrics.listen,
      routes: metricsRoutes(metrics),
      guarded: false,
      log,
    }),
    new HttpServer({
      what: 'health.listen',
      at: config.health.listen,
      routes: healthRoutes(readiness, config),
      guarded: false,
      log,
    }),
  ];

  const close = async (): Promise<void> => {
    signals.close();
    settling.close();
    identity.close();
    stream.close();
    acknowledger.close();
    rollout.close();
    await supervisor.close();
    await spans?.close();
    client.close();
    await Promise.all(servers.map((server) => server.close()));
    await output.flush();
  };
  return { version, log, shutdown, supervisor, identity, stream, servers, close };
}

/** Rejects with the first failure of what should run for good; never resolves. */
function failed(...lasting: readonly Promise<void>[]): Promise<never> {
  return new Promise((_, reject) => {
    for (const one of lasting) one.catch(reject);
  });
}

/** Null where no collector is configured. Spans are told apart by the names that Istio gives: `<canonical name>.<namespace>`. */
function spanExporter(
  { workload, tracing }: ProxyConfig,
  version: string,
  clock: Clock,
  log: Log,
): SpanExporter | null {
  if (tracing === null) return null;
  const { name, namespace, labels } = workload;
  const revision = firstLabel(labels, CANONICAL_REVISION);
  const resource = {
    'service.name': `${telemetryFields(labels, name).canonicalService}.${namespace}`,
    'service.namespace': namespace,
    'service.instance.id': `${namespace}/${name}`,
    ...(revision === null ? {} : { 'service.version': revision }),
  };
  return new SpanExporter({ endpoint: tracing.endpoint, resource, version, clock, log });
}

function workerConfig(config: ProxyConfig): Omit<WorkerConfig, 'index' | 'controlPlane'> {
  const { workload, inbound, outbound, expose, upstreams, accessLog, logLevel, limits, http, opaquePorts } = config;
  const { name, namespace, serviceAccount, labels, addresses } = workload;
  const ownPorts = [config.admin, config.metrics, config.health].map(({ listen }) => listen.port);
  return {
    workload: { name, namespace, serviceAccount, labels, addresses },
    inbound,
    outbound,
    expose,
    upstreams,
    ownPorts,
    accessLog,
    logLevel,
    limits,
    http,
    opaquePorts,
    tracing: config.tracing === null ? null : { sampling: config.tracing.sampling },
  };
}
