import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { Resource } from '../../mesh/resources.ts';
import { readCertificates } from '../../mesh/x509/certificate.ts';
import { LOG_LEVELS, type LogLevel, type ProxyConfig } from '../config.ts';
import { json, type Reply, type Routes, text } from './http-server.ts';
import type { Output } from './logging.ts';
import type { Metrics } from './metrics.ts';
import { probeRoutes } from './probes/probe-routes.ts';
import { missing, type Readiness } from './readiness.ts';
import type { ResourceStore } from './store.ts';
import type { Supervisor } from './supervisor.ts';
import type { Svid } from './svid.ts';

/** Where the application is probed where no address of the workload is configured. */
const LOOPBACK = '127.0.0.1';

/** The parts of the sidecar that operators may look at. */
export interface Inside {
  readonly config: ProxyConfig;
  readonly version: string;
  readonly store: ResourceStore;
  readonly supervisor: Pick<Supervisor, 'query' | 'load' | 'setLogLevel' | 'states' | 'restarts'>;
  readonly output: Output;
  readonly svid: () => Svid | null;
  readonly connected: () => boolean;
  readonly drain: () => void;
  /** Of what comes in alone; may be asked for any number of times. */
  readonly drainInbound: () => void;
}

/** Without authentication, hence on loopback. NEVER a private key or token: what is shown is picked, not filtered. */
export function adminRoutes(inside: Inside): Routes {
  const { config, version, store, supervisor, output } = inside;
  return {
    'GET /config_dump': async (query) =>
      json({
        version,
        config: withoutSecrets(config),
        resources: {
          version: store.version,
          changedAt: timeText(store.changedAt),
          inForce: byKind(store.resources()),
          rejected: store.rejected(),
        },
        ...(query.has('workers') ? { workers: await supervisor.query('resources') } : {}),
      }),
    'GET /certs': () => json(describeCertificates(inside.svid(), store.roots())),
    'GET /connections': async () => json(await supervisor.query('connections')),
    'GET /stats': () =>
      json({
        version,
        uptimeSeconds: Math.round(process.uptime()),
        controlPlane: { address: config.controlPlane.address, connected: inside.connected() },
        resources: { version: store.version, count: store.size, rejected: store.rejected().length },
        workers: supervisor.states(),
        workerRestarts: supervisor.restarts,
        droppedLogLines: output.droppedLines,
        memory: process.memoryUsage(),
      }),
    'GET /logging': () => text(200, `level: ${output.level}`),
    'POST /logging': (query) => {
      const level = readLevel(query.get('level'));
      output.setLevel(level);
      supervisor.setLogLevel(level);
      return text(200, `level: ${level}`);
    },
    'POST /drain': async (query) => {
      if (query.get('direction') !== 'inbound') {
        throw new PosternError(
          'ERR_DRAIN_DIRECTION',
          'write POST /drain?direction=inbound, or POST /quitquitquit to drain everything and end',
          { exitCode: EXIT.usage },
        );
      }
      inside.drainInbound();
      return json({ draining: 'inbound', connections: await supervisor.load() });
    },
    'POST /quitquitquit': () => {
      inside.drain();
      return text(200, 'draining');
    },
  };
}

export function metricsRoutes(metrics: Metrics): Routes {
  const scrape = async (): Promise<Reply> => ({ status: 200, type: metrics.contentType, body: await metrics.text() });
  return { 'GET /metrics': scrape, 'GET /stats/prometheus': scrape };
}

/** Also the probes of the application. */
export function healthRoutes(readiness: () => Readiness, { probes, workload }: ProxyConfig): Routes {
  return {
    ...probeRoutes(probes, workload.addresses[0] ?? LOOPBACK),
    'GET /healthz/ready': () => {
      const lacking = missing(readiness());
      return lacking.length === 0 ? text(200, 'ready') : text(503, `not ready: ${lacking.join('; ')}`);
    },
    'GET /healthz/live': () => text(200, 'live'),
  };
}

function readLevel(wanted: string | null): LogLevel {
  const level = LOG_LEVELS.find((known) => known === wanted);
  if (level !== undefined) return level;
  throw new PosternError('ERR_LOG_LEVEL', `write POST /logging?level=… with one of ${LOG_LEVELS.join(', ')}`, {
    exitCode: EXIT.usage,
  });
}

/** Headers of probes are where authors write passwords. */
function withoutSecrets(config: ProxyConfig): ProxyConfig {
  const probes = config.probes.map((probe) => {
    if (probe.ask.kind !== 'http') return probe;
    const headers = probe.ask.headers.map(({ name }) => ({ name, value: '(not shown)' }));
    return { ...probe, ask: { ...probe.ask, headers } };
  });
  return { ...config, probes };
}

const timeText = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

function byKind(resources: Iterable<Resource>): Record<string, Resource[]> {
  const kinds: Record<string, Resource[]> = {};
  for (const resource of resources) {
    const list = kinds[resource.kind] ?? [];
    list.push(resource);
    kinds[resource.kind] = list;
  }
  return kinds;
}

function describeCertificates(svid: Svid | null, roots: readonly string[]): unknown {
  return {
    spiffeId: svid?.spiffeId ?? null,
    serial: svid?.serial ?? null,
    notBefore: timeText(svid?.notBefore ?? null),
    notAfter: timeText(svid?.notAfter ?? null),
    chain: svid === null ? [] : describe(svid.chain),
    roots: roots.flatMap(describe),
  };
}

function describe(bundle: string): unknown[] {
  return readCertificates(bundle).map((certificate) => ({
    uris: certificate.uris,
    issuer: certificate.x509.issuer,
    serial: certificate.serial,
    notBefore: timeText(certificate.notBefore),
    notAfter: timeText(certificate.notAfter),
    fingerprint256: certificate.fingerprint,
  }));
}
