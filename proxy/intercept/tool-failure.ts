import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { ToolResult } from './machine.ts';
import { privilegeError } from './privileges.ts';
import type { Backend } from './rules.ts';

/** Stable code of "this kernel cannot do it", upon which another backend may be tried. */
export const KERNEL_UNSUPPORTED = 'ERR_INTERCEPT_KERNEL';

const PRIVILEGE = /operation not permitted|permission denied|must be root/i;
// nft prints the kernel's errno (ENOENT for an unknown chain type, EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT); iptables its own words.
const UNSUPPORTED =
  /no such file or directory|not supported|table does not exist|can't initialize|do you need to insmod|no chain\/target\/match|couldn't load (match|target)/i;
const LOCKED = /xtables lock|resource temporarily unavailable|device or resource busy/i;

const MODULES = {
  nft: 'nf_tables, nft_chain_nat, nft_redir (Linux 5.2 or newer)',
  iptables: 'iptable_nat, ip6table_nat, xt_REDIRECT, xt_owner, xt_mark (or their nf_tables forms)',
} as const;

/** What the tool said, without the input that it quotes; bounded, for it goes to a person. */
function said(result: ToolResult): string {
  const lines = result.stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^\^+$/.test(line));
  return lines.slice(0, 3).join(' | ').slice(0, 500) || `exit status ${result.status}, no message`;
}

/** The error for a tool that did not succeed, by what it printed. */
export function toolFailure(backend: Backend, program: string, result: ToolResult): PosternError {
  if (PRIVILEGE.test(result.stderr)) return privilegeError(`${program}: ${said(result)}`);
  if (LOCKED.test(result.stderr)) {
    return new PosternError(
      'ERR_INTERCEPT_BUSY',
      `another program is changing the packet rules at the same time (${program}: ${said(result)}): try again`,
      { exitCode: EXIT.temporary },
    );
  }
  if (UNSUPPORTED.test(result.stderr)) {
    const other = backend === 'nft' ? 'iptables' : 'nft';
    return new PosternError(
      KERNEL_UNSUPPORTED,
      `the kernel does not offer the network address translation that ${program} asks for (${said(result)}): load the modules ` +
        `${MODULES[backend]} on the machine, or try --backend ${other}`,
      { exitCode: EXIT.unavailable },
    );
  }
  return new PosternError('ERR_INTERCEPT_TOOL', `${program} refused the rules: ${said(result)}`, {
    exitCode: EXIT.osError,
  });
}
