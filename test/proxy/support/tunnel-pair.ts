import type { TlsMaterial } from '../../../proxy/native/tls-context.ts';
import type { TcpAddress } from '../../support/apps.ts';
import { foreignAuthority, issueLeaf, type Signer } from '../../support/forge.ts';
import { LoopbackBlock } from '../../support/loopback.ts';
import { LoopThread } from './loop-thread.ts';
import type { TunnelHostStart, TunnelStats } from './tunnel-host.ts';

const CLIENT = 'spiffe://cluster.local/ns/shop/sa/frontend';
const SERVER = 'spiffe://cluster.local/ns/shop/sa/orders';

export function materialOf(signer: Signer, uri: string): TlsMaterial {
  const { cert, key } = issueLeaf(signer, { uris: [uri] });
  return { chain: cert, privateKey: key, roots: [signer.root] };
}

export type TunnelPairOptions = Partial<
  Pick<TunnelHostStart, 'maxStreams' | 'streamIdleMs' | 'to' | 'holdDials' | 'channels' | 'refuseWords'>
> & {
  readonly authorities: readonly string[];
};

/** Both ends of tunnels in a thread, and what plain applications on this side see of them. */
export class TunnelPair {
  readonly thread: LoopThread;
  readonly signer: Signer;
  /** Where a client application dials. */
  readonly entry: TcpAddress;
  /** Where the server's tunnels are taken. */
  readonly tunnel: TcpAddress;
  readonly client: TlsMaterial;
  readonly server: TlsMaterial;
  readonly #block: LoopbackBlock;
  readonly #idleDescriptors: number;

  private constructor(thread: LoopThread, signer: Signer, block: LoopbackBlock, start: TunnelHostStart) {
    this.thread = thread;
    this.signer = signer;
    this.#block = block;
    this.entry = start.listen;
    this.tunnel = start.tunnel;
    this.client = start.clientMaterial;
    this.server = start.serverMaterial;
    this.#idleDescriptors = thread.descriptors;
  }

  static async start(options: TunnelPairOptions, signer = foreignAuthority()): Promise<TunnelPair> {
    const block = await LoopbackBlock.take();
    const address = block.address();
    const tunnel = { address, port: 15008 };
    const start: TunnelHostStart = {
      tunnel,
      listen: { address, port: 15001 },
      to: tunnel,
      serverMaterial: materialOf(signer, SERVER),
      clientMaterial: materialOf(signer, CLIENT),
      maxStreams: 100,
      streamIdleMs: 60_000,
      holdDials: false,
      channels: false,
      refuseWords: '',
      ...options,
    };
    const thread = await LoopThread.start(new URL('./tunnel-host.ts', import.meta.url), start);
    return new TunnelPair(thread, signer, block, start);
  }

  stats(): Promise<TunnelStats> {
    return this.thread.ask<TunnelStats>('stats');
  }

  /** Descriptors beyond those of the listeners and of the tunnels that live. */
  async extraDescriptors(): Promise<number> {
    const { clientTunnels, serverTunnels } = await this.stats();
    return this.thread.descriptors - this.#idleDescriptors - clientTunnels - serverTunnels;
  }

  /** Ends it, and throws where something is left or anything went wrong inside. */
  async stop(): Promise<void> {
    await this.thread.ask('destroy');
    const left = await this.thread.stop();
    this.#block.release();
    if (this.thread.faults.length > 0) throw new Error(`exceptions in the loop:\n${this.thread.faults.join('\n')}`);
    if (left !== 0) throw new Error(`${left} descriptors were left`);
  }
}
