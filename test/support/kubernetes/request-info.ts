import { selectedName } from './selectors.ts';

/** What a request asks for, as authorization sees it (apiserver, `pkg/endpoints/request`). */
export interface RequestInfo {
  readonly path: string;
  readonly isResource: boolean;
  /** get, list, watch, create, update, patch, delete, deletecollection; of other paths the method in lower case. */
  readonly verb: string;
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly subresource: string;
  /** Empty: of the cluster, or of all namespaces. */
  readonly namespace: string;
  readonly name: string;
}

const VERBS: { readonly [method: string]: string } = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

const OF_NAMESPACES: readonly string[] = ['status', 'finalize'];

export function requestInfo(method: string, path: string, query: URLSearchParams): RequestInfo {
  const other: RequestInfo = {
    path,
    isResource: false,
    verb: method.toLowerCase(),
    group: '',
    version: '',
    resource: '',
    subresource: '',
    namespace: '',
    name: '',
  };
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  const isCore = parts[0] === 'api';
  if (!isCore && parts[0] !== 'apis') return other;
  const [group = '', version = '', ...rest] = isCore ? ['', ...parts.slice(1)] : parts.slice(1);
  if (rest.length === 0) return other;
  const inNamespace = rest[0] === 'namespaces' && rest.length > 2 && !OF_NAMESPACES.includes(rest[2] ?? '');
  const namespace = rest[0] === 'namespaces' && rest.length > 1 ? (rest[1] ?? '') : '';
  const [resource = '', pathName = '', subresource = ''] = inNamespace ? rest.slice(2) : rest;
  const ofCollection = pathName === '' && ['GET', 'DELETE'].includes(method);
  const name = ofCollection ? selectedName(query.get('fieldSelector') ?? '') : pathName;
  const verb = verbOf(method, pathName === '', query);
  return { path, isResource: true, verb, group, version, resource, subresource, namespace, name };
}

function verbOf(method: string, ofCollection: boolean, query: URLSearchParams): string {
  const verb = VERBS[method] ?? method.toLowerCase();
  if (!ofCollection) return verb;
  if (verb === 'get') return isTrue(query.get('watch')) ? 'watch' : 'list';
  return verb === 'delete' ? 'deletecollection' : verb;
}

export const isTrue = (value: string | null): boolean => value === 'true' || value === '1' || value === '';
