import type { IncomingMessage } from 'node:http';
import type { Rbac } from './rbac.ts';
import type { RequestInfo } from './request-info.ts';
import type { User } from './tokens.ts';

const ACCOUNT = /^system:serviceaccount:([^:]+):([^:]+)$/;

/** The user whom a request names instead of its own (`kubectl --as`). @throws ApiFailure 403 where its own may not do that. */
export function impersonated(request: IncomingMessage, user: User, rbac: Rbac): User {
  const name = request.headers['impersonate-user'];
  if (typeof name !== 'string' || name === '') return user;
  const groups = (request.headersDistinct['impersonate-group'] ?? []).flatMap((one) => one.split(/, ?/));
  const [, namespace = '', account = ''] = ACCOUNT.exec(name) ?? [];
  rbac.require(user, account === '' ? may('users', '', name) : may('serviceaccounts', namespace, account), null);
  for (const group of groups) rbac.require(user, may('groups', '', group), null);
  const implied = account === '' ? [] : ['system:serviceaccounts', `system:serviceaccounts:${namespace}`];
  const all = new Set([...groups, ...(groups.length === 0 ? implied : []), 'system:authenticated']);
  return { username: name, uid: '', groups: [...all], extra: {} };
}

function may(resource: string, namespace: string, name: string): RequestInfo {
  return {
    path: '',
    isResource: true,
    verb: 'impersonate',
    group: '',
    version: 'v1',
    resource,
    subresource: '',
    namespace,
    name,
  };
}
