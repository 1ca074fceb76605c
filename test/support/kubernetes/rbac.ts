import type { JsonObject } from '../../../policy/types.ts';
import { objectsAt, textAt, textsAt } from './objects.ts';
import type { RequestInfo } from './request-info.ts';
import { ApiFailure, resourceText } from './status.ts';
import type { Store } from './store.ts';
import type { User } from './tokens.ts';
import type { ServedType } from './type-registry.ts';

/** What is to be allowed: of a request, or of a SubjectAccessReview. */
export type Access = Omit<RequestInfo, 'version'>;

export interface Verdict {
  readonly allowed: boolean;
  readonly reason: string;
}

const GROUP = 'rbac.authorization.k8s.io';

/** Decides by the roles and bindings that the store holds at that moment. */
export class Rbac {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** @throws ApiFailure 403, in the server's own words. */
  require(user: User, info: RequestInfo, type: ServedType | null): void {
    if (this.decide(user, info).allowed) return;
    if (!info.isResource) {
      throw new ApiFailure('Forbidden', `forbidden: User "${user.username}" cannot ${info.verb} path "${info.path}"`, {
        details: {},
      });
    }
    const { group, resource, subresource, name, namespace } = info;
    const what = subresource === '' ? resource : `${resource}/${subresource}`;
    const where = namespace === '' ? 'at the cluster scope' : `in the namespace "${namespace}"`;
    const subject = resourceText(type ?? { group, plural: resource });
    throw new ApiFailure(
      'Forbidden',
      `${subject}${name === '' ? '' : ` "${name}"`} is forbidden: User "${user.username}" cannot ${info.verb} resource "${what}" in API group "${group}" ${where}`,
      { details: { ...(name === '' ? {} : { name }), ...(group === '' ? {} : { group }), kind: resource } },
    );
  }

  decide(user: User, access: Access): Verdict {
    if (user.groups.includes('system:masters')) return { allowed: true, reason: '' };
    for (const { binding, rules } of this.#rulesFor(user, access.namespace)) {
      if (!rules.some((rule) => allows(rule, access))) continue;
      const role = `${textAt(binding, 'roleRef', 'kind')} "${textAt(binding, 'roleRef', 'name')}"`;
      const kind = textAt(binding, 'kind');
      return { allowed: true, reason: `RBAC: allowed by ${kind} "${textAt(binding, 'metadata', 'name')}" of ${role}` };
    }
    return { allowed: false, reason: '' };
  }

  /** Rules that apply to a user in a namespace: for SelfSubjectRulesReview. */
  rules(user: User, namespace: string): readonly JsonObject[] {
    if (user.groups.includes('system:masters')) {
      return [
        { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
        { verbs: ['*'], nonResourceURLs: ['*'] },
      ];
    }
    return [...this.#rulesFor(user, namespace)].flatMap(({ rules }) => rules);
  }

  *#rulesFor(
    user: User,
    namespace: string,
  ): Generator<{ readonly binding: JsonObject; readonly rules: readonly JsonObject[] }> {
    const cluster = this.#store.list(`${GROUP}/clusterrolebindings`, '');
    const local = namespace === '' ? [] : this.#store.list(`${GROUP}/rolebindings`, namespace);
    for (const { object: binding, namespace: home } of [...cluster, ...local]) {
      if (!objectsAt(binding, 'subjects').some((subject) => isSubject(subject, user, home))) continue;
      const role = this.#role(binding, home);
      if (role !== null) yield { binding, rules: objectsAt(role, 'rules') };
    }
  }

  #role(binding: JsonObject, namespace: string): JsonObject | null {
    const name = textAt(binding, 'roleRef', 'name');
    const entry =
      textAt(binding, 'roleRef', 'kind') === 'ClusterRole'
        ? this.#store.get(`${GROUP}/clusterroles`, '', name)
        : this.#store.get(`${GROUP}/roles`, namespace, name);
    return entry?.object ?? null;
  }
}

function isSubject(subject: JsonObject, user: User, bindingNamespace: string): boolean {
  const name = textAt(subject, 'name');
  switch (textAt(subject, 'kind')) {
    case 'User':
      return name === user.username;
    case 'Group':
      return user.groups.includes(name);
    case 'ServiceAccount': {
      const namespace = textAt(subject, 'namespace') || bindingNamespace;
      return namespace !== '' && user.username === `system:serviceaccount:${namespace}:${name}`;
    }
    default:
      return false;
  }
}

function allows(rule: JsonObject, access: Access): boolean {
  const verbs = textsAt(rule, 'verbs');
  if (!verbs.includes('*') && !verbs.includes(access.verb)) return false;
  if (!access.isResource) {
    return textsAt(rule, 'nonResourceURLs').some((url) =>
      url.endsWith('*') ? access.path.startsWith(url.slice(0, -1)) : url === access.path,
    );
  }
  const groups = textsAt(rule, 'apiGroups');
  const names = textsAt(rule, 'resourceNames');
  return (
    (groups.includes('*') || groups.includes(access.group)) &&
    textsAt(rule, 'resources').some((resource) => coversResource(resource, access)) &&
    // A create by POST has no name yet: a rule with names never allows it.
    (names.length === 0 || (access.name !== '' && names.includes(access.name)))
  );
}

function coversResource(resource: string, { resource: plural, subresource }: Access): boolean {
  const asked = subresource === '' ? plural : `${plural}/${subresource}`;
  return resource === '*' || resource === asked || (subresource !== '' && resource === `*/${subresource}`);
}
