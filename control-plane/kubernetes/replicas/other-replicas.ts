import { asObject, field } from '../../../policy/json.ts';
import type { Manifest } from '../../../policy/types.ts';
import { readPod } from '../../registry/pods.ts';
import type { Peer } from './peers.ts';

/** On the pods of the control plane, see `manifests/kubernetes`. */
const LABEL = 'app.kubernetes.io/name';
const NAME = 'postern-control-plane';

/** The control plane's pods that run, but for `own.pod`. */
export function otherReplicas(
  manifests: readonly Manifest[],
  own: { readonly namespace: string; readonly pod: string; readonly port: number },
): readonly Peer[] {
  return manifests.flatMap((manifest) => {
    const { kind, namespace, name, object } = manifest;
    if (kind !== 'Pod' || namespace !== own.namespace || name === own.pod) return [];
    const { labels, addresses } = readPod(manifest);
    const [address] = addresses;
    const runs = field(asObject(field(object, 'status')), 'phase') === 'Running' && labels[LABEL] === NAME;
    return runs && address !== undefined ? [{ pod: name, address: { address, port: own.port } }] : [];
  });
}
