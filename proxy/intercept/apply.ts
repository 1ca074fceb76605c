import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { InterceptOptions } from '../../mesh/intercept/options.ts';
import { type Machine, thisMachine } from './machine.ts';
import { NFT_TABLE } from './nftables.ts';
import { requireNetAdmin, withoutUnmappedIds } from './privileges.ts';
import { applyTransactions, type Backend, removeTransactions, type SavedRules, type Transaction } from './rules.ts';
import { KERNEL_UNSUPPORTED, toolFailure } from './tool-failure.ts';

export type BackendChoice = 'auto' | Backend;

export interface Applied {
  readonly backend: Backend;
  /** What the rules were made of: the options given, less what this user namespace does not have. */
  readonly options: InterceptOptions;
  /** For the operator: what was done otherwise than asked. */
  readonly warnings: readonly string[];
}

/** The program by which a backend is known to be installed. */
const PROGRAM = { nft: 'nft', iptables: 'iptables-restore' } as const;
const BACKENDS: readonly Backend[] = ['nft', 'iptables'];

/** The backends to try, best first. */
function candidates(choice: BackendChoice, machine: Machine): [Backend, ...Backend[]] {
  const wanted = choice === 'auto' ? BACKENDS : [choice];
  const [first, ...others] = wanted.filter((backend) => machine.locate(PROGRAM[backend]) !== null);
  if (first !== undefined) return [first, ...others];
  const missing = wanted.map((backend) => PROGRAM[backend]).join(' and ');
  const wish = choice === 'iptables' ? 'iptables' : 'nftables';
  throw new PosternError(
    'ERR_INTERCEPT_NO_TOOL',
    `${missing} not found in PATH or the system's folders: install ${wish} (Debian: apt-get install ${wish})`,
    { exitCode: EXIT.unavailable },
  );
}

async function commit(backend: Backend, transaction: Transaction, machine: Machine, flags: string[] = []) {
  const [program, ...args] = transaction.command;
  const path = machine.locate(program) ?? program;
  const result = await machine.run([path, ...args, ...flags], transaction.stdin);
  if (result.status !== 0) throw toolFailure(backend, program, result);
}

/**
 * What iptables holds now. Without `-t`, iptables-save reads only tables that exist: asking for `nat` by name would make the legacy
 * variant load it. No IPv6 in this namespace means no file, and no ip6tables.
 */
async function savedRules(machine: Machine): Promise<SavedRules> {
  const save = async (program: string): Promise<string> => {
    const path = machine.locate(program);
    if (path === null) return '';
    const result = await machine.run([path]);
    if (result.status !== 0) throw toolFailure('iptables', program, result);
    return result.stdout;
  };
  const hasIpv6 = machine.read('/proc/net/if_inet6') !== null;
  return { ipv4: await save('iptables-save'), ipv6: hasIpv6 ? await save('ip6tables-save') : null };
}

async function applyIptables(options: InterceptOptions, machine: Machine): Promise<void> {
  const saved = await savedRules(machine);
  const transactions = applyTransactions(options, 'iptables', saved);
  // IPv4 and IPv6 are two transactions: try both before either, so that one cannot fail alone for a reason known beforehand.
  for (const transaction of transactions) await commit('iptables', transaction, machine, ['--test']);
  try {
    for (const transaction of transactions) await commit('iptables', transaction, machine);
  } catch (error) {
    // The first failure is the one to tell, whatever becomes of undoing the half that was done.
    await removeIptables(machine).catch(() => false);
    throw error;
  }
}

async function removeIptables(machine: Machine): Promise<boolean> {
  const transactions = removeTransactions('iptables', await savedRules(machine));
  for (const transaction of transactions) await commit('iptables', transaction, machine);
  return transactions.length > 0;
}

async function removeNft(machine: Machine): Promise<boolean> {
  const path = machine.locate('nft') ?? 'nft';
  const listed = await machine.run([path, 'list', 'tables']);
  if (listed.status !== 0) throw toolFailure('nft', 'nft', listed);
  if (!listed.stdout.split('\n').includes(`table ${NFT_TABLE}`)) return false;
  for (const transaction of removeTransactions('nft')) await commit('nft', transaction, machine);
  return true;
}

const removeFrom = (backend: Backend, machine: Machine): Promise<boolean> =>
  backend === 'nft' ? removeNft(machine) : removeIptables(machine);

async function applyWith(backend: Backend, options: InterceptOptions, machine: Machine): Promise<void> {
  if (backend === 'iptables') return applyIptables(options, machine);
  for (const transaction of applyTransactions(options, 'nft')) await commit('nft', transaction, machine);
}

const isUnsupported = (error: unknown): error is PosternError =>
  error instanceof PosternError && error.code === KERNEL_UNSUPPORTED;

/** Applies by the first backend that this kernel knows. */
async function applyFirst(
  backends: readonly [Backend, ...Backend[]],
  options: InterceptOptions,
  machine: Machine,
): Promise<Backend> {
  const [backend, next, ...rest] = backends;
  try {
    await applyWith(backend, options, machine);
    return backend;
  } catch (error) {
    if (next === undefined || !isUnsupported(error)) throw error;
    return applyFirst([next, ...rest], options, machine);
  }
}

/** Removes what another backend had put there: rules of ours that nobody would think of any more. */
async function removeOther(backend: Backend, machine: Machine): Promise<string[]> {
  const other = backend === 'nft' ? 'iptables' : 'nft';
  if (machine.locate(PROGRAM[other]) === null) return [];
  try {
    return (await removeFrom(other, machine)) ? [`rules that an earlier run had made with ${other} were removed`] : [];
  } catch (error) {
    // A kernel that does not know the other backend holds none of its rules.
    if (isUnsupported(error)) return [];
    throw error;
  }
}

/**
 * Puts the redirection of `options` in place in this network namespace, instead of whatever of ours was there. Doing it twice is doing it once.
 *
 * @throws PosternError with exit code 77 (no privilege), 69 (no tool, or no such kernel), 75 (rules being changed by another), 78 or 71.
 */
export async function applyInterception(
  options: InterceptOptions,
  choice: BackendChoice = 'auto',
  machine: Machine = thisMachine,
): Promise<Applied> {
  requireNetAdmin(machine);
  const { options: possible, warnings } = withoutUnmappedIds(options, machine);
  const backend = await applyFirst(candidates(choice, machine), possible, machine);
  return { backend, options: possible, warnings: [...warnings, ...(await removeOther(backend, machine))] };
}

/** Removes ours, of every backend that `choice` names, and nothing else; tells of which backends something was there. */
export async function removeInterception(
  choice: BackendChoice = 'auto',
  machine: Machine = thisMachine,
): Promise<Backend[]> {
  requireNetAdmin(machine);
  const removed: Backend[] = [];
  for (const backend of candidates(choice, machine)) {
    try {
      if (await removeFrom(backend, machine)) removed.push(backend);
    } catch (error) {
      // A kernel that does not know a backend holds none of its rules.
      if (!isUnsupported(error)) throw error;
    }
  }
  return removed;
}

/** What `applyInterception` would do where nothing of ours is there yet, without looking at the machine's rules or privileges. */
export function showInterception(
  options: InterceptOptions,
  choice: BackendChoice = 'auto',
  machine: Machine = thisMachine,
): { readonly backend: Backend; readonly transactions: readonly Transaction[] } {
  const found = choice === 'auto' ? BACKENDS.find((backend) => machine.locate(PROGRAM[backend]) !== null) : choice;
  const backend = found ?? 'nft';
  return { backend, transactions: applyTransactions(options, backend) };
}
