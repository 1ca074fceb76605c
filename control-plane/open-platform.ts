import type { Logger } from 'pino';
import type { ControlPlaneConfig } from './config.ts';
import { LocalPlatform } from './local/local-platform.ts';
import type { ControlPlaneMetrics } from './metrics.ts';
import type { Platform } from './platform.ts';

/** What the settings say the control plane runs on. @throws PosternError where it cannot. */
export async function openPlatform(
  config: ControlPlaneConfig,
  log: Logger,
  metrics: ControlPlaneMetrics,
): Promise<Platform> {
  if (config.kubernetes === null) return new LocalPlatform(config, log, metrics);
  // Its client and informers are not loaded where there is no cluster.
  const { ClusterPlatform } = await import('./kubernetes/cluster-platform.ts');
  return await ClusterPlatform.open(config, config.kubernetes, log, metrics);
}
