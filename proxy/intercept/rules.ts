import type { InterceptOptions } from '../../mesh/intercept/options.ts';
import { iptablesRemoval, iptablesScript, readIptablesState } from './iptables.ts';
import { NFT_REMOVE, nftablesScript } from './nftables.ts';

export type Backend = 'nft' | 'iptables';

/** A program and what it reads: one atomic change of the kernel's rules. */
export interface Transaction {
  readonly command: readonly [string, ...string[]];
  readonly stdin: string;
}

/** Output of `iptables-save` and `ip6tables-save`; '' for none, null for a family that this network namespace does not have. */
export interface SavedRules {
  readonly ipv4: string;
  readonly ipv6: string | null;
}

export const NO_SAVED_RULES: SavedRules = { ipv4: '', ipv6: '' };

/** Seconds that iptables waits for another one's lock (xtables.lock). */
const LOCK_WAIT_S = '5';

const restore = (family: 4 | 6): readonly [string, ...string[]] => [
  family === 4 ? 'iptables-restore' : 'ip6tables-restore',
  '--noflush',
  '--wait',
  LOCK_WAIT_S,
];

function perFamily(saved: SavedRules, script: (family: 4 | 6, saved: string) => string | null): Transaction[] {
  const families = [
    { family: 4, rules: saved.ipv4 },
    { family: 6, rules: saved.ipv6 },
  ] as const;
  return families.flatMap(({ family, rules }) => {
    const stdin = rules === null ? null : script(family, rules);
    return stdin === null ? [] : [{ command: restore(family), stdin }];
  });
}

/** What puts the redirection in place, whatever of ours was there before. */
export function applyTransactions(options: InterceptOptions, backend: Backend, saved = NO_SAVED_RULES): Transaction[] {
  if (backend === 'nft') return [{ command: ['nft', '-f', '-'], stdin: nftablesScript(options) }];
  return perFamily(saved, (family, rules) => iptablesScript(options, family, readIptablesState(rules)));
}

/** What removes ours and nothing else. */
export function removeTransactions(backend: Backend, saved = NO_SAVED_RULES): Transaction[] {
  if (backend === 'nft') return [{ command: ['nft', '-f', '-'], stdin: NFT_REMOVE }];
  return perFamily(saved, (_family, rules) => iptablesRemoval(readIptablesState(rules)));
}
