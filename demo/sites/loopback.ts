import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { NAMESPACE, PORTS, SERVICE_PORT, WORKLOAD_NAMES, type WorkloadName } from '../workloads.ts';
import { dieWithParent } from './die-with-parent.ts';
import type { Door, Place, Site } from './site.ts';

/** Behind the sidecar; the workload's port is SERVICE_PORT, as `expose` says. */
const APPLICATION_PORT = 9000;
/** Where a caller's sidecar listens for each service. */
const UPSTREAM_PORTS: { readonly [name in WorkloadName]: number } = { frontend: 7401, orders: 7402, payments: 7403 };

/** Linux answers on all of 127.0.0.0/8: each workload has an address of its own there, and nothing needs privileges. */
export class LoopbackSite implements Site {
  readonly description: string;
  readonly redirected = false;
  readonly sidecarUid = null;
  readonly controlPlane: Place;
  readonly outsider: Place;
  readonly workloads: { readonly [name in WorkloadName]: Place };

  private constructor(reason: string, network: string) {
    this.description = `addresses of the loopback interface (${reason}): explicit upstreams instead of redirection`;
    const place = (name: string, host: number): Place => ({ name, address: `${network}.${host}` });
    this.controlPlane = place('control-plane', 1);
    this.outsider = place('outsider', 99);
    this.workloads = { frontend: place('frontend', 11), orders: place('orders', 12), payments: place('payments', 13) };
  }

  /** Takes the first of some networks in which nothing listens at the control plane's port. */
  static async create(reason: string): Promise<LoopbackSite> {
    for (let third = 0; third < 16; third++) {
      const network = `127.77.${third}`;
      if (await isFree(`${network}.1`, PORTS.controlPlane)) return new LoopbackSite(reason, network);
    }
    throw new PosternError('ERR_DEMO_SITE', 'no free loopback addresses in 127.77.0.0/20: end other demos first', {
      exitCode: EXIT.temporary,
    });
  }

  spawn(_place: Place, argv: readonly string[]): ChildProcess {
    const [program = '', ...args] = dieWithParent(argv);
    return spawn(program, args, { stdio: 'pipe' });
  }

  door(place: Place, port: number): Door {
    return { host: place.address, port };
  }

  url(place: Place, port: number): string {
    return `http://${place.address}:${port}`;
  }

  proxySettings(name: WorkloadName): { readonly [key: string]: unknown } {
    const { address } = this.workloads[name];
    const others = WORKLOAD_NAMES.filter((other) => other !== name);
    return {
      workload: { addresses: [address] },
      inbound: { tunnel: `${address}:${PORTS.tunnel}` },
      expose: [{ port: SERVICE_PORT, application: `${address}:${APPLICATION_PORT}` }],
      upstreams: others.map((service) => ({
        listen: `${address}:${UPSTREAM_PORTS[service]}`,
        service: `${service}.${NAMESPACE}:${SERVICE_PORT}`,
      })),
      admin: { listen: `${address}:${PORTS.admin}` },
      metrics: { listen: `${address}:${PORTS.metrics}` },
      health: { listen: `${address}:${PORTS.health}` },
    };
  }

  application(name: WorkloadName): { readonly host: string; readonly port: number } {
    return { host: this.workloads[name].address, port: APPLICATION_PORT };
  }

  target(caller: WorkloadName, service: WorkloadName): { readonly host: string; readonly port: number } {
    return { host: this.workloads[caller].address, port: UPSTREAM_PORTS[service] };
  }

  bypass(service: WorkloadName): { readonly host: string; readonly port: number } {
    return { host: this.workloads[service].address, port: PORTS.tunnel };
  }

  commandLine(caller: WorkloadName, service: WorkloadName): string {
    const { host, port } = this.target(caller, service);
    return `curl http://${host}:${port}/`;
  }

  async close(): Promise<void> {}
}

async function isFree(host: string, port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
