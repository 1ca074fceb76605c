import { LineSplitter } from '../../mesh/line-splitter.ts';
import { asObject, asString, field } from '../../policy/json.ts';
import { KubernetesError } from './errors.ts';
import { resourceVersionOf } from './object-meta.ts';
import { errorOfEvent, parseObject } from './status.ts';
import type { WatchEvent } from './types.ts';

/** etcd takes objects of 1.5 MiB by default, managed fields and all; JSON may be a few times that. */
const MAX_EVENT_BYTES = 8 * 1024 * 1024;

/** Bytes of a watch to its events, a line each. One a stream. */
export class WatchEvents {
  readonly #what: string;
  readonly #lines: LineSplitter;

  /** @param what The request, for messages. */
  constructor(what: string, maxBytes: number = MAX_EVENT_BYTES) {
    this.#what = what;
    this.#lines = new LineSplitter(maxBytes, 'the Kubernetes API');
  }

  /** @throws KubernetesError for an ERROR event, `Malformed` for what is no event. @throws PosternError ERR_LINE_TOO_LONG */
  *push(chunk: Buffer): Generator<WatchEvent> {
    for (const line of this.#lines.push(chunk)) {
      const event = this.#read(line);
      if (event !== null) yield event;
    }
  }

  #read(line: string): WatchEvent | null {
    const event = parseObject(line);
    const type = asString(field(event, 'type'));
    const object = asObject(field(event, 'object'));
    if (type === null || object === null) throw this.#malformed('a line is no event');
    if (type === 'ERROR') throw errorOfEvent(this.#what, object);
    const resourceVersion = resourceVersionOf(object);
    if (resourceVersion === null) throw this.#malformed(`the object of an ${type} event has no resourceVersion`);
    if (type === 'BOOKMARK') return { type, resourceVersion };
    if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') return { type, object };
    // A type that does not exist yet: what it says of an object would be lost.
    throw this.#malformed(`an event is of the unknown type ${JSON.stringify(type.slice(0, 50))}`);
  }

  #malformed(why: string): KubernetesError {
    return new KubernetesError('Malformed', 0, `${this.#what}: ${why}; is this a Kubernetes API?`);
  }
}
