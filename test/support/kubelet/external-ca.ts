import { X509Certificate } from 'node:crypto';
import { parse, stringify } from 'yaml';
import { renderInstallation } from '../../../cli/install/manifests.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { type ForeignCa, foreignCa } from '../../control-plane/kubernetes/ca/foreign-ca.ts';
import type { StandInCluster } from '../kubernetes/cluster.ts';
import { nameOf, textAt, withFields } from '../kubernetes/objects.ts';
import { SYSTEM } from './mesh-cluster.ts';

const DAY_MS = 86_400_000;
const SECRET = 'postern-external-ca';
const KEY = 'control-plane.yaml';

/** What fills the Secret of an external CA, as cert-manager would. */
export class ExternalCa {
  readonly #cluster: StandInCluster;

  constructor(cluster: StandInCluster) {
    this.#cluster = cluster;
  }

  /** `postern install --component external-ca`, as far as it differs: control planes that start from now on use the Secret. */
  install(): void {
    const objects = renderInstallation({ overlay: 'ha', components: ['external-ca'], settings: [] });
    const role = objects.filter((object) => textAt(object, 'kind') === 'Role');
    const rendered = objects.find((object) => textAt(object, 'data', KEY) !== '');
    const { kubernetes } = parse(textAt(rendered, 'data', KEY)) as { kubernetes: { ca: JsonObject } };
    this.#cluster.apply(role);
    this.#cluster.direct.update({ apiVersion: 'v1', kind: 'ConfigMap' }, SYSTEM, nameOf(rendered ?? {}), (object) => {
      const config = parse(textAt(object, 'data', KEY)) as { kubernetes: JsonObject };
      const settings = { ...config, kubernetes: { ...config.kubernetes, ca: kubernetes.ca } };
      return withFields(object, { data: { [KEY]: stringify(settings) } });
    });
  }

  /** Puts a new intermediate of this root into the Secret. Fingerprint of the intermediate. */
  fill(root: ForeignCa): string {
    const intermediate = foreignCa(root, lifetime());
    this.#put({ 'tls.crt': intermediate.pem, 'tls.key': intermediate.keyPem, 'ca.crt': root.pem });
    return fingerprintOf(intermediate.pem);
  }

  /** What is left where somebody has edited the Secret by hand: the key of another certificate. */
  breakIt(root: ForeignCa): void {
    const [one, other] = [foreignCa(root, lifetime()), foreignCa(root, lifetime())];
    this.#put({ 'tls.crt': one.pem, 'tls.key': other.keyPem, 'ca.crt': root.pem });
  }

  #put(data: { readonly [key: string]: string }): void {
    const encoded = Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')]);
    const metadata = { namespace: SYSTEM, name: SECRET };
    this.#cluster.apply([
      { apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/tls', metadata, data: Object.fromEntries(encoded) },
    ]);
  }
}

export const externalRoot = (): ForeignCa => foreignCa(null, lifetime());

export const fingerprintOf = (pem: string): string => new X509Certificate(pem).fingerprint256;

const lifetime = () => ({ notBefore: Date.now() - DAY_MS, notAfter: Date.now() + 30 * DAY_MS });
