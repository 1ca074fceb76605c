import { lookup as systemLookup } from 'node:dns/promises';
import { isIP, type LookupFunction } from 'node:net';
import type { SocketAddress } from '../worker/messages.ts';
import type { Clock } from './clock.ts';

interface Found {
  readonly address: string;
  readonly family: number;
}

export interface ResolverOptions {
  /** Origin of the control plane. */
  readonly origin: string;
  readonly clock: Clock;
  /** The addresses are others than before; not called for the answer of `first`. */
  readonly onChange: (addresses: readonly SocketAddress[]) => void;
  /** All addresses of a name. Default: the system's resolver. */
  readonly lookup?: (name: string) => Promise<readonly Found[]>;
}

/** A name that does not resolve must hold up neither the start nor a connection. */
const DEADLINE_MS = 2_000;
/** So many replicas are not dialled one after the other anyway. */
const MAX_ADDRESSES = 64;

/**
 * Where the control plane listens. Its name is looked up again for every connection: behind it stand replicas that come and go.
 *
 * ALWAYS: the last addresses that were found stay good while the name does not resolve.
 */
export class ControlPlaneResolver {
  readonly #options: ResolverOptions;
  readonly #host: string;
  readonly #port: number;
  #found: readonly Found[];
  /** The question that is under way: others wait for its answer, so that a slow name server is not asked more and more. */
  #asking: Promise<readonly Found[]> | null = null;

  constructor(options: ResolverOptions) {
    this.#options = options;
    const { hostname, port } = new URL(options.origin);
    this.#host = hostname.replace(/^\[|\]$/g, '');
    this.#port = Number(port === '' ? 443 : port);
    const family = isIP(this.#host);
    this.#found = family === 0 ? [] : [{ address: this.#host, family }];
  }

  /** The last that were found; empty before the first. */
  get addresses(): readonly SocketAddress[] {
    return this.#found.map(({ address }) => ({ address, port: this.#port }));
  }

  /** The addresses at the start; none where the name does not resolve in time. */
  async first(): Promise<readonly SocketAddress[]> {
    if (isIP(this.#host) === 0) this.#found = await this.#ask().catch(() => []);
    return this.addresses;
  }

  /** For node:net, which asks it before each connection to a name. */
  readonly lookup: LookupFunction = (_hostname, { all }, callback) => {
    this.#resolve().then(
      (found) => {
        const [first] = found;
        if (all === true) callback(null, [...found]);
        else callback(null, first?.address ?? '', first?.family ?? 0);
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 0),
    );
  };

  /** @throws what the resolver throws where nothing was ever found */
  async #resolve(): Promise<readonly Found[]> {
    try {
      const found = await this.#ask();
      if (!sameAddresses(found, this.#found)) {
        this.#found = found;
        this.#options.onChange(this.addresses);
      }
    } catch (error) {
      if (this.#found.length === 0) throw error;
    }
    return this.#found;
  }

  /** Within the deadline. */
  async #ask(): Promise<readonly Found[]> {
    const { lookup = (name) => systemLookup(name, { all: true }), clock } = this.#options;
    this.#asking ??= lookup(this.#host).finally(() => {
      this.#asking = null;
    });
    const late = Promise.withResolvers<never>();
    const cancel = clock.after(DEADLINE_MS, () =>
      late.reject(new Error(`the name ${this.#host} was not resolved within ${DEADLINE_MS} ms`)),
    );
    try {
      const found = await Promise.race([this.#asking, late.promise]);
      if (found.length === 0) throw new Error(`the name ${this.#host} has no address`);
      return found.slice(0, MAX_ADDRESSES);
    } finally {
      cancel();
    }
  }
}

/** Name servers turn the order round. */
function sameAddresses(a: readonly Found[], b: readonly Found[]): boolean {
  const known = new Set(a.map(({ address }) => address));
  return known.size === new Set(b.map(({ address }) => address)).size && b.every(({ address }) => known.has(address));
}
