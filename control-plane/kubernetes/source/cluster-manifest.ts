import { asString, field } from '../../../policy/json.ts';
import { DEFAULT_NAMESPACE } from '../../../policy/selection.ts';
import type { JsonObject, Manifest, SourceLocation } from '../../../policy/types.ts';

/** An object of the cluster as a manifest. It has no file with lines: what is said of it names the object, and the path within it. */
export class ClusterManifest implements Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  /** As everywhere, that of an object without one is `default`. */
  readonly namespace: string;
  readonly name: string;
  readonly object: JsonObject;
  readonly #file: string;

  /** @param key `<namespace>/<name>`, or `<name>` of a cluster-scoped object. */
  constructor(kind: string, key: string, object: JsonObject) {
    const slash = key.indexOf('/');
    this.apiVersion = asString(field(object, 'apiVersion')) ?? '';
    this.kind = kind;
    this.namespace = slash === -1 ? DEFAULT_NAMESPACE : key.slice(0, slash);
    this.name = key.slice(slash + 1);
    this.object = object;
    this.#file = `${kind} ${key}`;
  }

  locate(): SourceLocation {
    return { file: this.#file, line: 1, column: 1 };
  }
}
