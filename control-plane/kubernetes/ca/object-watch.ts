import type { Logger } from 'pino';
import { resourceVersionOf } from '../../../kubernetes/api/object-meta.ts';
import type { KubernetesApi, ResourceType } from '../../../kubernetes/api/types.ts';
import { Informer } from '../../../kubernetes/informer/informer.ts';
import type { ObjectWatch } from './shared-object.ts';

/** Tells when one object may have changed. Of the object only its version is kept: what is in it is read from the API's own store. */
export function watchObject(options: {
  readonly api: Pick<KubernetesApi, 'list' | 'watch'>;
  readonly type: ResourceType;
  readonly namespace: string;
  readonly name: string;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
}): ObjectWatch {
  const { api, type, namespace, name, log } = options;
  let informer: Informer<string> | null = null;
  return {
    start(onChange) {
      informer = new Informer<string>({
        api,
        type,
        // The one selection that RBAC can grant by name.
        selection: { namespace, fieldSelector: `metadata.name=${name}` },
        transform: resourceVersionOf,
        equals: (a, b) => a === b,
        onChange,
        log,
      });
      informer.start();
    },
    async stop() {
      await informer?.stop();
    },
  };
}
