import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { at, objectsAt, textAt } from '../kubernetes/objects.ts';

/** `$(NAME)` and `$$` as the kubelet reads them (k8s.io/kubernetes third_party/forked/golang/expansion): what is not known stays as it is. */
export function expand(text: string, known: ReadonlyMap<string, string>): string {
  return text.replaceAll(/\$\$|\$\(([^)]*)\)/g, (found, name: string | undefined) =>
    name === undefined ? '$' : (known.get(name) ?? found),
  );
}

/**
 * A container's environment: what the image has, then its own variables in order, each of which may refer to earlier ones.
 * @throws Error for sources that this kubelet does not know
 */
export function environmentOf(
  pod: JsonObject,
  container: JsonObject,
  image: { readonly [name: string]: string },
): ReadonlyMap<string, string> {
  const variables = new Map(Object.entries(image));
  for (const entry of objectsAt(container, 'env')) {
    const from = at(entry, 'valueFrom');
    const value = from === undefined ? expand(textAt(entry, 'value'), variables) : referred(pod, from);
    variables.set(textAt(entry, 'name'), value);
  }
  return variables;
}

function referred(pod: JsonObject, from: JsonValue): string {
  const path = textAt(from, 'fieldRef', 'fieldPath');
  if (path === '') throw new Error(`this kubelet knows fieldRef alone, not ${JSON.stringify(from)}`);
  return fieldOf(pod, path);
}

/** The downward API. */
export function fieldOf(pod: JsonObject, path: string): string {
  if (path === 'status.podIPs') {
    return objectsAt(pod, 'status', 'podIPs')
      .map((one) => textAt(one, 'ip'))
      .join(',');
  }
  const [, group = '', key = ''] = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path) ?? [];
  if (key !== '') return textAt(pod, 'metadata', group, key);
  const value = at(pod, ...path.split('.'));
  if (typeof value !== 'string') throw new Error(`this kubelet finds no ${path} in the pod`);
  return value;
}
