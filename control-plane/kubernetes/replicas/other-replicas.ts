import { asObject, asString, field, isList } from '../../../policy/json.ts';
import type { Manifest } from '../../../policy/types.ts';
import type { Peer } from './peers.ts';

/** On the pods of the control plane, see `manifests/kubernetes`. */
const LABEL = 'app.kubernetes.io/name';
const NAME = 'postern-control-plane';

/** The control plane's pods that run, but for `own.pod`. */
export function otherReplicas(
  manifests: readonly Manifest[],
  own: { readonly namespace: string; readonly pod: string; readonly port: number },
): readonly Peer[] {
  return manifests.flatMap(({ kind, namespace, name, object }) => {
    if (kind !== 'Pod' || namespace !== own.namespace || name === own.pod) return [];
    const labels = asObject(field(asObject(field(object, 'metadata')), 'labels'));
    const status = asObject(field(object, 'status'));
    const addresses = field(status, 'podIPs');
    const address = isList(addresses) ? addressOf(addresses[0]) : null;
    const runs = asString(field(status, 'phase')) === 'Running' && field(labels, LABEL) === NAME;
    return runs && address !== null ? [{ pod: name, address: { address, port: own.port } }] : [];
  });
}

/** As slim pods have it, a text; as the API has it, `{ip}`. */
function addressOf(entry: unknown): string | null {
  if (typeof entry === 'string') return entry;
  return typeof entry === 'object' && entry !== null && 'ip' in entry && typeof entry.ip === 'string' ? entry.ip : null;
}
