import { messageOf } from '../../../mesh/errors.ts';
import type { ProbeConfig } from '../../config-pod.ts';
import { type Reply, type Routes, text } from '../http-server.ts';
import { probeGrpc } from './grpc-probe.ts';
import { probeHttp } from './http-probe.ts';
import { failed, type Outcome } from './outcome.ts';
import { probeTcp } from './tcp-probe.ts';

/**
 * Of one probe at a time: the health port is open to all, and nobody is to flood the application by it. Whoever asks beyond that is told what the newest
 * of them finds out: others who ask must not make the kubelet's probes fail, or they could have the pod restarted.
 */
const MAX_IN_FLIGHT = 4;
const MAX_REASON = 200;

/**
 * The application's probes, answered on the health port: 200, or 503 with the reason. @param address of the application. Of a request nothing
 * reaches it but the User-Agent, by which applications know the kubelet.
 */
export function probeRoutes(probes: readonly ProbeConfig[], address: string): Routes {
  return Object.fromEntries(probes.map((probe) => [`GET ${probe.path}`, routeOf(probe, address)]));
}

function routeOf(probe: ProbeConfig, address: string): Routes[string] {
  const underWay = new Set<Promise<Outcome>>();
  return async (_query, { 'user-agent': userAgent }) => {
    const newest = underWay.size < MAX_IN_FLIGHT ? undefined : [...underWay].at(-1);
    if (newest !== undefined) return replyTo(await newest);
    const asked = ask(probe, address, userAgent);
    underWay.add(asked);
    try {
      return replyTo(await asked);
    } finally {
      underWay.delete(asked);
    }
  };
}

async function ask({ ask, timeoutMs }: ProbeConfig, address: string, userAgent: string | undefined): Promise<Outcome> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    if (ask.kind === 'tcp') return await probeTcp(ask, address, signal);
    if (ask.kind === 'grpc') return await probeGrpc(ask, address, userAgent, signal);
    return await probeHttp(ask, address, userAgent, signal);
  } catch (error) {
    return failed(signal.aborted ? `no answer within ${timeoutMs} ms` : messageOf(error));
  }
}

const replyTo = ({ ok, why }: Outcome): Reply => text(ok ? 200 : 503, why.replaceAll('\n', ' ').slice(0, MAX_REASON));
