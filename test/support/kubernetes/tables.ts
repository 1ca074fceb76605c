import type { IncomingMessage } from 'node:http';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { jsonPath } from './json-path.ts';
import { at, isDeleting, metaOf, nameOf, objectsAt, textAt } from './objects.ts';
import type { Entry } from './store.ts';
import { apiVersionOf, type Column, type ServedType } from './type-registry.ts';

/** What `kubectl get` asks for: columns and cells that the server makes. */
export function isTableAsked({ headers }: IncomingMessage): boolean {
  return /application\/json;[^,]*as=Table[^,]*;v=v1;|application\/json;[^,]*v=v1;[^,]*as=Table|as=Table;v=v1(?:;|,|$)/.test(
    headers.accept ?? '',
  );
}

interface Printed extends Omit<Column, 'path'> {
  readonly cell: (object: JsonObject) => JsonValue;
}

const NAME: Printed = { name: 'Name', type: 'string', priority: 0, cell: nameOf };
const AGE: Printed = {
  name: 'Age',
  type: 'string',
  priority: 0,
  cell: (object) => age(textAt(object, 'metadata', 'creationTimestamp')),
};
const shown = (name: string, cell: (object: JsonObject) => JsonValue, priority = 0, type = 'string'): Printed => ({
  name,
  type,
  priority,
  cell,
});

const POD: readonly Printed[] = [
  shown('Ready', (pod) => `${readyContainers(pod)}/${objectsAt(pod, 'spec', 'containers').length}`),
  shown('Status', (pod) => (isDeleting(pod) ? 'Terminating' : textAt(pod, 'status', 'phase'))),
  shown('Restarts', (pod) =>
    String(
      objectsAt(pod, 'status', 'containerStatuses').reduce((sum, one) => sum + Number(at(one, 'restartCount') ?? 0), 0),
    ),
  ),
  AGE,
  shown('IP', (pod) => textAt(pod, 'status', 'podIP') || '<none>', 1),
  shown('Node', (pod) => textAt(pod, 'spec', 'nodeName') || '<none>', 1),
];

const SERVICE: readonly Printed[] = [
  shown('Type', (service) => textAt(service, 'spec', 'type')),
  shown('Cluster-IP', (service) => textAt(service, 'spec', 'clusterIP') || '<none>'),
  shown('External-IP', () => '<none>'),
  shown('Port(s)', (service) =>
    objectsAt(service, 'spec', 'ports')
      .map((port) => `${port.port}/${port.protocol}`)
      .join(','),
  ),
  AGE,
];

const OWN: { readonly [storage: string]: readonly Printed[] } = {
  '/pods': POD,
  '/services': SERVICE,
  '/configmaps': [
    shown('Data', (map) => Object.keys((at(map, 'data') as JsonObject | undefined) ?? {}).length, 0, 'integer'),
    AGE,
  ],
};

const readyContainers = (pod: JsonObject): number =>
  objectsAt(pod, 'status', 'containerStatuses').filter((status) => status.ready === true).length;

function columnsOf(type: ServedType): readonly Printed[] {
  const own = OWN[type.storage];
  if (own !== undefined) return [NAME, ...own];
  if (type.columns === null) return [NAME, AGE];
  const columns = type.columns.map(({ path, type: columnType, ...rest }) => ({
    ...rest,
    // Dates are shown as an age, which the server works out.
    type: columnType === 'date' ? 'date' : columnType,
    cell: (object: JsonObject) => cell(columnType, jsonPath(object, path)),
  }));
  return [NAME, ...columns];
}

function cell(type: string, values: readonly JsonValue[]): JsonValue {
  if (values.length === 0) return null;
  const [first = null] = values;
  if (type === 'date') return typeof first === 'string' ? age(first) : '<unknown>';
  if (type === 'integer' || type === 'number' || type === 'boolean') return first;
  return values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(',');
}

/** `3m5s`, roughly as `kubectl` shows durations. */
function age(since: string): string {
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(since)) / 1000));
  if (Number.isNaN(seconds)) return '<unknown>';
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

export function tableText(
  type: ServedType,
  entries: readonly Entry[],
  metadata: JsonObject,
  query: URLSearchParams,
): string {
  const columns = columnsOf(type);
  const include = query.get('includeObject') ?? 'Metadata';
  const table = {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: columns.map(({ name, type: columnType, priority, description }) => ({
      name,
      type: columnType,
      format: name === 'Name' ? 'name' : '',
      description: description ?? '',
      priority,
    })),
    rows: entries.map((entry) => row(type, columns, entry, include)),
  };
  return JSON.stringify(table);
}

/** An event of a watch: a table of one row. */
export function tableEvent(type: ServedType, entry: Entry, query: URLSearchParams): string {
  return tableText(type, [entry], { resourceVersion: String(entry.revision) }, query);
}

function row(type: ServedType, columns: readonly Printed[], entry: Entry, include: string): JsonObject {
  const object = entry.in(apiVersionOf(type));
  const partial = { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: metaOf(object) };
  return {
    cells: columns.map((column) => column.cell(object)),
    ...(include === 'None' ? {} : { object: include === 'Object' ? object : partial }),
  };
}
