import type { Logger } from 'pino';
import { KubernetesError } from '../../../kubernetes/api/errors.ts';
import { messageOf, PosternError } from '../../../mesh/errors.ts';
import type { Generation } from '../../ca/generation.ts';
import type { ExternalIssuer } from './external-issuer.ts';
import { readSecret } from './secret-contents.ts';
import type { SharedObject } from './shared-object.ts';

export interface PredecessorOptions {
  /** Of the CA of its own that the mesh may have had. */
  readonly secret: SharedObject;
  readonly trustDomain: string;
  /** Of the root that issues, which the external CA's is not (yet). */
  readonly fingerprint: string;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

/**
 * The mesh's own CA, for one that has moved to an external CA: it goes on issuing, for sidecars and for the control plane's own server, until every
 * sidecar trusts the external root. Otherwise sidecars could not even connect to be told of that root.
 *
 * @returns null where there is none with that root, or it cannot be read, which the log says.
 * @throws KubernetesError where the API server does not answer: whoever starts without knowing would issue under a root that nobody trusts
 */
export async function readPredecessor(options: PredecessorOptions): Promise<ExternalIssuer | null> {
  const { secret, trustDomain, fingerprint, log } = options;
  try {
    const { object } = await secret.read();
    const known = object === null ? [] : readSecret(object, trustDomain, secret.where).generations;
    const found = known.find(({ root }) => root.certificate.fingerprint === fingerprint);
    if (found !== undefined) {
      log.info(`the root of ${secret.where} goes on issuing until every sidecar trusts that of the external CA`);
      return issuerOf(found);
    }
    log.warn(`the root that issues is neither the external CA's nor in ${secret.where}: ${CONSEQUENCE}`);
  } catch (error) {
    const isRefusal = error instanceof KubernetesError ? error.status === 403 : error instanceof PosternError;
    if (!isRefusal) throw error;
    log.warn(
      `${messageOf(error)}. The root that issues is not the external CA's, and no key of it is at hand: ${CONSEQUENCE}`,
    );
  }
  return null;
}

const CONSEQUENCE =
  'this control plane gives no certificates until the external root may issue; sidecars that do not know that root yet learn of it by another replica, or by the ConfigMap of roots in their namespace';

function issuerOf({ root, intermediate }: Generation): ExternalIssuer {
  return {
    certificate: intermediate.certificate,
    issuer: intermediate.issuer,
    chain: intermediate.pem,
    root: root.certificate,
    rootPem: root.pem,
    notAfter: Math.min(intermediate.certificate.notAfter, root.certificate.notAfter),
  };
}
