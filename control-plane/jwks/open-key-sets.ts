import type { Logger } from 'pino';
import { type ControlPlaneConfig, FIXED } from '../config.ts';
import type { ControlPlaneMetrics } from '../metrics.ts';
import { AddressGuard } from './address-guard.ts';
import { fetchKeySet } from './fetch-key-set.ts';
import { KeySetFile } from './key-set-file.ts';
import { KeySetKeeper } from './key-set-keeper.ts';

/** The keeper of token issuers' keys as the settings have it, with what the data directory remembers. It fetches nothing before `want`. */
export function openKeySets(
  { dataDir, jwks }: Pick<ControlPlaneConfig, 'dataDir' | 'jwks'>,
  outside: { readonly onChange: () => void; readonly metrics: ControlPlaneMetrics; readonly log: Logger },
): KeySetKeeper {
  const { firstRetryMs, retryMs, keepMs, concurrency, maxSources, maxSourcesOfOne, maxBytes } = FIXED.jwks;
  const guard = new AddressGuard(jwks.allowedAddresses);
  return new KeySetKeeper({
    fetch: ({ source, timeoutMs }, signal) => fetchKeySet(source, { guard, timeoutMs, maxBytes, signal }),
    rhythm: { refreshMs: jwks.refreshSeconds * 1000, firstRetryMs, retryMs, keepMs },
    concurrency,
    maxSources,
    maxSourcesOfOne,
    file: new KeySetFile(dataDir, outside.log),
    clock: () => Date.now(),
    ...outside,
  });
}
