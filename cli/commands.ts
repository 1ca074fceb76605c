import type { Command } from 'commander';

export interface CommandModule {
  register(program: Command): void;
}

/**
 * The subcommands of `postern` and where each is. A module is loaded only when its command (or the whole help) is asked for: a sidecar's
 * memory counts, and what it never runs it should not hold.
 */
export const COMMANDS: { readonly [name: string]: () => Promise<CommandModule> } = {
  proxy: () => import('./commands/proxy.ts'),
  'control-plane': () => import('./commands/control-plane.ts'),
  drain: () => import('./commands/drain.ts'),
  wait: () => import('./commands/wait.ts'),
  status: () => import('./commands/status.ts'),
  validate: () => import('./commands/validate.ts'),
  authn: () => import('./commands/authn.ts'),
  authz: () => import('./commands/authz.ts'),
  token: () => import('./commands/token.ts'),
  ca: () => import('./commands/ca.ts'),
  revoke: () => import('./commands/revoke.ts'),
  intercept: () => import('./commands/intercept.ts'),
  inject: () => import('./commands/inject.ts'),
  install: () => import('./commands/install.ts'),
  uninstall: () => import('./commands/uninstall.ts'),
  check: () => import('./commands/check.ts'),
};
