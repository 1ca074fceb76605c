import { networkInterfaces } from 'node:os';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { addressToInteger, addressWithin, blockOf } from '../../mesh/intercept/cidr.ts';
import type { InterceptOptions, Selection } from '../../mesh/intercept/options.ts';
import { dialFromOutside, INBOUND_PROBE } from './inbound-probe.ts';
import { type Machine, thisMachine } from './machine.ts';
import { type Connection, familyOf, isRedirected, ofFamily } from './matching.ts';
import { type DialResult, dial } from './probe-dial.ts';
import type { Answer, ProbeListeners } from './probe-listeners.ts';

export interface ProbeResult {
  readonly direction: 'outbound' | 'inbound';
  readonly family: 4 | 6;
  readonly outcome: 'redirected' | 'failed' | 'skipped';
  /** What was dialled and what came of it, or why nothing was dialled. */
  readonly detail: string;
}

export interface Target {
  readonly address: string;
  readonly port: number;
}

const FAMILIES = [4, 6] as const;
/** Addresses for documentation, at which nobody answers (RFC 5737, RFC 3849). */
const NOWHERE = ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1'];
/** In nobody's use; what Linkerd's validator dials too. */
const PORT = 20_001;
const PROBE_TIMEOUT_MS = 5_000;
/** There is no route to that family at all: the packet never reaches the rules, and no application could use it either. */
const NO_ROUTE = new Set(['ENETUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/** The ports that a probe may use: the usual one, else the first that the lists let through. */
function ports(selection: Selection): number[] {
  return [PORT, ...(selection.includePorts ?? []).flatMap(({ from, to }) => [from, to])];
}

/** What a probe may dial so that the rules of these options redirect it, best first. */
export function outboundTargets(
  options: InterceptOptions,
  family: 4 | 6,
  prober: { readonly owner: Connection['owner']; readonly neighbours: readonly string[] },
): Target[] {
  const included = ofFamily(options.outbound.includeCidrs ?? [], family).map((cidr) => addressWithin(cidr, 1));
  return [...NOWHERE, ...included, ...prober.neighbours]
    .filter((address) => familyOf(address) === family)
    .flatMap((address) => ports(options.outbound).map((port) => ({ address, port })))
    .filter(({ address, port }) =>
      isRedirected(options, { direction: 'outbound', interfaceName: '', address, port, owner: prober.owner }),
    );
}

/** Addresses of the networks that this machine is on, for a namespace without a default route. */
function neighbours(): string[] {
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return own.flatMap(({ internal, address, cidr }) => {
    const prefix = Number(cidr?.split('/')[1] ?? Number.NaN);
    const block = internal || address.startsWith('fe80:') ? null : blockOf(address, prefix);
    const others = block === null ? [] : [1, 2].map((offset) => addressWithin(block, offset));
    return others.filter((candidate) => own.every((taken) => taken.address !== candidate));
  });
}

const text = ({ address, port }: Target): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

function isSame(one: Target, other: Target): boolean {
  const family = familyOf(one.address);
  return one.port === other.port && addressToInteger(one.address, family) === addressToInteger(other.address, family);
}

/** The listener's answer; null where somebody else gave it. */
function readAnswer(line: string, nonce: string): Answer | null {
  try {
    const answer: Partial<Answer> | null = JSON.parse(line);
    const { nonce: told, originalDestination = null } = answer ?? {};
    return told === nonce ? { nonce, originalDestination } : null;
  } catch {
    return null;
  }
}

/** What became of a dialled connection, in words. */
export function verdict(
  result: DialResult,
  target: Target,
  nonce: string,
  port: number,
): Pick<ProbeResult, 'outcome' | 'detail'> {
  const dialled = `a connection to ${text(target)}`;
  const failed = (why: string): Pick<ProbeResult, 'outcome' | 'detail'> => ({
    outcome: 'failed',
    detail: `${dialled} ${why}`,
  });
  if (result.kind === 'failed') {
    const why = result.code === 'TIMEOUT' ? 'nothing answered it in time' : `it failed with ${result.code}`;
    return failed(`did not come to port ${port}: ${why}`);
  }
  const answer = readAnswer(result.line, nonce);
  if (answer === null) return failed(`did not come to port ${port}: something else answered it`);
  const original = answer.originalDestination;
  if (original === null) return failed(`came to port ${port}, but the kernel does not tell where it was going`);
  if (!isSame(target, original)) return failed(`came to port ${port} as if it had been going to ${text(original)}`);
  return { outcome: 'redirected', detail: `${dialled} came to port ${port}` };
}

/** The interface by which packets to `address` leave; '' where that cannot be told. */
async function routeInterface(address: string, machine: Machine): Promise<string> {
  const ip = machine.locate('ip');
  if (ip === null) return '';
  const { stdout } = await machine.run([ip, 'route', 'get', address]);
  return / dev (\S+)/.exec(stdout)?.[1] ?? '';
}

async function probeOutbound(family: 4 | 6, run: Run): Promise<ProbeResult> {
  const { options, listeners, machine, timeoutMs } = run;
  const skipped = (detail: string): ProbeResult => ({ direction: 'outbound', family, outcome: 'skipped', detail });
  const targets = outboundTargets(options, family, { owner: run.owner, neighbours: neighbours() });
  if (targets.length === 0) return skipped('the lists leave out every address and port that a probe may dial');
  for (const target of targets) {
    const { excludeInterfaces } = options;
    if (excludeInterfaces.length > 0 && excludeInterfaces.includes(await routeInterface(target.address, machine)))
      continue;
    const result = await dial(target.address, target.port, timeoutMs);
    if (result.kind === 'failed' && NO_ROUTE.has(result.code)) continue;
    const proof = verdict(result, target, listeners.nonce('outbound'), options.outboundPort);
    return { direction: 'outbound', family, ...proof };
  }
  return skipped('this network namespace has no route for it, or only by excluded interfaces');
}

async function probeInbound(run: Run): Promise<ProbeResult[]> {
  const { options, listeners, machine, timeoutMs } = run;
  const skipped = (family: 4 | 6, detail: string): ProbeResult => ({
    direction: 'inbound',
    family,
    outcome: 'skipped',
    detail,
  });
  // Not even ::1 where IPv6 is switched off by sysctl.
  const hasIpv6 = (machine.read('/proc/net/if_inet6') ?? '').trim() !== '';
  const plans = FAMILIES.map((family) => {
    const { local, peer } = family === 4 ? INBOUND_PROBE.ipv4 : INBOUND_PROBE.ipv6;
    const port = ports(options.inbound).find((candidate) =>
      isRedirected(options, {
        direction: 'inbound',
        interfaceName: INBOUND_PROBE.device,
        address: peer,
        port: candidate,
        owner: run.owner,
      }),
    );
    const target = port === undefined || (family === 6 && !hasIpv6) ? null : { address: local, port };
    return { family, target, peer };
  });
  const possible = plans.flatMap(({ family, target }) => (target === null ? [] : [{ family, target }]));
  const task = { targets: possible.map(({ target }) => target), timeoutMs };
  const families = possible.map(({ family }) => (family === 4 ? 'ipv4' : 'ipv6'));
  const results = possible.length === 0 ? [] : await dialFromOutside(task, families, machine);
  return plans.map(({ family, target, peer }) => {
    if (target === null)
      return skipped(family, `the lists leave out the probe, which comes from ${peer}, or there is no such family`);
    if (typeof results === 'string') return skipped(family, results);
    const result = results[task.targets.indexOf(target)] ?? { kind: 'failed', code: 'NO_RESULT' };
    return {
      direction: 'inbound',
      family,
      ...verdict(result, target, listeners.nonce('inbound'), options.inboundPort),
    };
  });
}

interface Run {
  readonly options: InterceptOptions;
  readonly listeners: ProbeListeners;
  readonly machine: Machine;
  readonly timeoutMs: number;
  readonly owner: Connection['owner'];
}

/**
 * Makes real connections that the rules must redirect, and tells of each whether it did come to the listener that it should come to. Inbound
 * ones come from a network namespace made for them, where that is allowed.
 *
 * @throws PosternError ERR_INTERCEPT_PROBE_EXEMPT where this process is itself exempt from redirection.
 */
export async function validateInterception(
  options: InterceptOptions,
  listeners: ProbeListeners,
  settings: { readonly timeoutMs?: number; readonly machine?: Machine } = {},
): Promise<ProbeResult[]> {
  const owner = { uid: process.geteuid?.() ?? -1, gid: process.getegid?.() ?? -1, mark: 0 };
  if (owner.uid === options.uid || owner.gid === options.gid) {
    throw new PosternError(
      'ERR_INTERCEPT_PROBE_EXEMPT',
      `this process runs as UID ${owner.uid}, GID ${owner.gid}, which redirection exempts: validate as another user, or give other --uid, --gid`,
    );
  }
  const { timeoutMs = PROBE_TIMEOUT_MS, machine = thisMachine } = settings;
  const run: Run = { options, listeners, machine, timeoutMs, owner };
  const [inbound, ...outbound] = await Promise.all([
    probeInbound(run),
    ...FAMILIES.map((family) => probeOutbound(family, run)),
  ]);
  return [...outbound, ...inbound];
}

/** @throws PosternError ERR_INTERCEPT_NOT_REDIRECTED where a probe failed, or none could be made. */
export function requireRedirected(results: readonly ProbeResult[]): void {
  const wrong = results.filter(({ outcome }) => outcome === 'failed');
  const told = wrong.length > 0 ? wrong : results;
  if (wrong.length === 0 && results.some(({ outcome }) => outcome === 'redirected')) return;
  const reasons = told.map(({ direction, family, detail }) => `${direction} IPv${family}: ${detail}`).join('; ');
  throw new PosternError(
    'ERR_INTERCEPT_NOT_REDIRECTED',
    `redirection does not work${wrong.length > 0 ? '' : ' as far as anything could be probed'}: ${reasons}. Check that the rules are applied in ` +
      'this network namespace (`nft list table inet postern`, or `iptables -t nat -S`), with these options, and that no other rule comes before them',
    { exitCode: EXIT.failure },
  );
}
