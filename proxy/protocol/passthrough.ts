import type { ServiceResource } from '../../mesh/resources.ts';
import { type Cidr, cidrContains, parseCidr, parseIp } from '../../policy/ip.ts';

interface Passage {
  readonly blocks: readonly Cidr[];
  readonly ports: ReadonlySet<number>;
}

/** The places outside the registry that a REGISTRY_ONLY mesh lets connections through to. Asked once for a new connection that leads nowhere else. */
export class Passages {
  readonly #byService = new Map<string, Passage>();

  put({ name, passthrough, ports }: ServiceResource): void {
    this.#byService.delete(name);
    if (passthrough === undefined || passthrough.length === 0) return;
    const blocks = passthrough.flatMap((text) => parseCidr(text) ?? []);
    this.#byService.set(name, { blocks, ports: new Set(ports.map(({ port }) => port)) });
  }

  remove(service: string): void {
    this.#byService.delete(service);
  }

  /** @param ip as inet_ntop(3) prints it. */
  lead(ip: string, port: number): boolean {
    const address = parseIp(ip);
    if (address === null) return false;
    for (const { blocks, ports } of this.#byService.values()) {
      if (ports.has(port) && blocks.some((block) => cidrContains(block, address))) return true;
    }
    return false;
  }
}
