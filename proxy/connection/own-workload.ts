import type { PolicyWorkload } from '../../policy/types.ts';
import type { DataPlane } from './data-plane.ts';

/**
 * This workload, as policies select it: by the labels that the control plane says it has, or, until it has said, those of the settings. Telemetry keeps
 * to the settings.
 */
export function ownWorkload({ view, config }: Pick<DataPlane, 'view' | 'config'>): PolicyWorkload {
  const { namespace, labels } = config.workload;
  return { namespace, labels: view.self?.labels ?? labels };
}
