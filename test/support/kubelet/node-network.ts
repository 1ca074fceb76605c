import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { type Host, MeshNetwork } from '../../../demo/network.ts';
import { enterNetworkNamespace } from '../../../proxy/native/network-namespace.ts';
import { Child, finish } from '../child.ts';

/** The node's own address: of the bridge to which its pods are tied. */
export const NODE_ADDRESS = '10.77.0.1';
export const SERVICE_NETWORK = '10.96.0.0/16';
export const SERVICE_NETWORK_6 = 'fd00:10:96::/112';
const NODE_ADDRESS_6 = 'fd77::1';

/**
 * The network of a node: a namespace for each pod, and this very process in the namespace of the bridge between them. What the test does, it does from
 * the node, as a kubelet and an API server would: it probes pods by their addresses, and calls services.
 *
 * All traffic between pods goes through the node (no pod has a neighbour), so that connections to services are translated there, for both directions.
 */
export class NodeNetwork {
  readonly #network: MeshNetwork;
  readonly #home: number;
  #count = 0;

  private constructor(network: MeshNetwork, home: number) {
    this.#network = network;
    this.#home = home;
  }

  /** From now on every socket of this thread, and every process that it starts, is on the node; until `destroy`. Needs root. */
  static async create(name: string): Promise<NodeNetwork> {
    const home = openSync('/proc/thread-self/ns/net', 'r');
    const network = await MeshNetwork.create({ name, isolation: 'root' });
    const node = new NodeNetwork(network, home);
    try {
      enter(`/run/netns/${network.namespaceOf('bridge')}`);
      await command([
        'sh',
        '-c',
        'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding',
      ]);
      // A packet leaves by the interface by which it came: the sender needs no hint.
      await command(['sh', '-c', 'for file in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >"$file"; done']);
      // Anywhere: the address is translated before the packet leaves.
      await command(['ip', 'route', 'add', SERVICE_NETWORK, 'dev', 'br0']);
      await command(['ip', '-6', 'route', 'add', SERVICE_NETWORK_6, 'dev', 'br0']);
      // Whoever forwards asks for neighbours by a link-local address.
      await command(['ip', '-6', 'addr', 'add', 'fe80::1/64', 'dev', 'br0', 'nodad']);
      return node;
    } catch (error) {
      await node.destroy();
      throw error;
    }
  }

  /** For a pod, or whatever else is on the network. */
  async addPod(): Promise<Host> {
    this.#count++;
    const host = await this.#network.addHost(`pod-${this.#count}`);
    const ip = ['ip', '-n', host.namespace];
    await command([...ip, 'route', 'replace', NODE_ADDRESS, 'dev', 'eth0', 'scope', 'link', 'src', host.ipv4]);
    await command([...ip, 'route', 'del', '10.77.0.0/24']);
    // A node of IPv6 cannot be kept from telling pods that they are neighbours: they must not listen.
    const deaf = 'for file in /proc/sys/net/ipv6/conf/*/accept_redirects; do echo 0 >"$file"; done';
    await command(['ip', 'netns', 'exec', host.namespace, 'sh', '-c', deaf]);
    await command([...ip, '-6', 'route', 'replace', NODE_ADDRESS_6, 'dev', 'eth0', 'src', host.ipv6]);
    await command([...ip, '-6', 'route', 'del', 'fd77::/64', 'dev', 'eth0']);
    return host;
  }

  /** Its addresses answer no more; whoever dials them learns it. */
  async removePod(host: Host): Promise<void> {
    await command(['ip', '-n', host.namespace, 'link', 'del', 'eth0']);
  }

  /** Leaves the node, and removes it. */
  async destroy(): Promise<void> {
    enter(`/proc/self/fd/${this.#home}`);
    closeSync(this.#home);
    await this.#network.destroy();
  }
}

function enter(namespace: string): void {
  const fd = openSync(namespace, 'r');
  try {
    enterNetworkNamespace(fd);
  } finally {
    closeSync(fd);
  }
}

/** Runs a tool on the node. */
export async function command(argv: readonly string[], stdin = ''): Promise<string> {
  const [program = '', ...args] = argv;
  const process = spawn(program, args, { stdio: [stdin === '' ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
  process.stdin?.end(stdin);
  const { code, stdout, stderr } = await finish(new Child(program, process), 15_000);
  if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}: ${stderr}`);
  return stdout;
}
