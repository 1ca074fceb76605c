import type { ExtensionProvider } from '../mesh/resources.ts';
import type { Protocol } from './condition.ts';
import { quoted } from './quoted.ts';
import type { Policy } from './rule.ts';

/** What becomes of what a workload's CUSTOM policies match. `note` says it to whoever reads an explanation. */
export type CustomOutcome =
  /** Its provider would have to be asked. */
  | { readonly kind: 'ask'; readonly provider: string; readonly note: string }
  /** There is nobody to ask. */
  | { readonly kind: 'deny'; readonly note: string }
  /** Its provider has no say on this protocol. */
  | { readonly kind: 'ignore'; readonly note: string };

/**
 * Who is to be asked for one workload (Istio's semantics, 1.11): the one provider that all its CUSTOM policies name, if the mesh has it. An
 * authorizer that speaks HTTP knows nothing to say of TCP.
 */
export function customOutcome(
  policies: readonly Policy[],
  providers: readonly ExtensionProvider[],
  protocol: Protocol,
): CustomOutcome {
  const names = new Set(policies.flatMap((policy) => (policy.action === 'CUSTOM' ? [policy.provider ?? ''] : [])));
  const [name = ''] = names;
  if (names.size > 1) {
    return { kind: 'deny', note: 'several providers are named for the workload, so what it matches is denied' };
  }
  const provider = providers.find((one) => one.name === name);
  if (provider === undefined) {
    return { kind: 'deny', note: `its provider is not known here (${quoted(name)}), so what it matches is denied` };
  }
  if (protocol === 'tcp' && provider.protocol === 'http') {
    return { kind: 'ignore', note: `its provider ${quoted(name)} speaks HTTP and is not asked for TCP` };
  }
  return {
    kind: 'ask',
    provider: name,
    note: `what it matches is denied unless its provider ${quoted(name)} allows it`,
  };
}
