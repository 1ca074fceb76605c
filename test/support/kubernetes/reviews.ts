import { asObject } from '../../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import type { Authentication } from './authentication.ts';
import { at, listAt, textAt, textsAt, timestamp, uidOf } from './objects.ts';
import type { Access, Rbac } from './rbac.ts';
import { ApiFailure, badRequest, invalid, notFound, wrong } from './status.ts';
import type { Store } from './store.ts';
import { API_AUDIENCE, type ServiceAccountTokens, type User } from './tokens.ts';
import type { ServedType } from './type-registry.ts';

/** Questions that are asked by creating an object, which is answered and not kept. */
export class Reviews {
  readonly #authentication: Authentication;
  readonly #rbac: Rbac;
  readonly #tokens: ServiceAccountTokens;
  readonly #store: Store;

  constructor(parts: {
    readonly authentication: Authentication;
    readonly rbac: Rbac;
    readonly tokens: ServiceAccountTokens;
    readonly store: Store;
  }) {
    this.#authentication = parts.authentication;
    this.#rbac = parts.rbac;
    this.#tokens = parts.tokens;
    this.#store = parts.store;
  }

  /** Null where the kind is no review. */
  answer(kind: string, asked: JsonObject, user: User): JsonObject | null {
    switch (kind) {
      case 'TokenReview':
        return { ...asked, status: this.#tokenReview(asked) };
      case 'SelfSubjectReview':
        return { ...asked, status: { userInfo: userInfo(user) } };
      case 'SelfSubjectAccessReview':
        return { ...asked, status: this.#accessReview(user, asked) };
      case 'SubjectAccessReview':
        return { ...asked, status: this.#accessReview(subjectOf(asked), asked) };
      case 'SelfSubjectRulesReview':
        return { ...asked, status: this.#rulesReview(user, textAt(asked, 'spec', 'namespace')) };
      default:
        return null;
    }
  }

  /** `serviceaccounts/<name>/token`. */
  tokenRequest(type: ServedType, namespace: string, name: string, asked: JsonObject): JsonObject {
    if (this.#store.get('/serviceaccounts', namespace, name) === null) throw notFound(type, name);
    const seconds = Number(at(asked, 'spec', 'expirationSeconds') ?? 3600);
    if (seconds < 600) {
      const cause = wrong('spec.expirationSeconds', seconds, 'may not specify a duration less than 10 minutes');
      throw invalid({ ...type, group: 'authentication.k8s.io', kind: 'TokenRequest' }, '', [cause]);
    }
    const pod = this.#boundPod(namespace, name, at(asked, 'spec', 'boundObjectRef'));
    const audiences = textsAt(asked, 'spec', 'audiences');
    const issued = this.#tokens.issue({
      namespace,
      serviceAccount: name,
      audiences,
      seconds,
      ...(pod === null ? {} : { pod }),
    });
    return {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { name, namespace, creationTimestamp: timestamp() },
      spec: {
        ...asObject(at(asked, 'spec') ?? null),
        audiences: audiences.length === 0 ? [API_AUDIENCE] : audiences,
        expirationSeconds: seconds,
      },
      status: { token: issued.token, expirationTimestamp: timestamp(issued.expiresAt) },
    };
  }

  #boundPod(namespace: string, account: string, reference: JsonValue | undefined): string | null {
    if (reference === undefined) return null;
    if (textAt(reference, 'kind') !== 'Pod') throw badRequest('cannot bind token to anything but a Pod here');
    const name = textAt(reference, 'name');
    const pod = this.#store.get('/pods', namespace, name);
    if (pod === null) {
      throw new ApiFailure('NotFound', `pods "${name}" not found`, { details: { name, kind: 'pods' } });
    }
    if (textAt(pod.object, 'spec', 'serviceAccountName') !== account) {
      throw badRequest(
        `cannot bind token for serviceaccount "${account}" to pod running with different serviceaccount name.`,
      );
    }
    const uid = textAt(reference, 'uid');
    if (uid !== '' && uid !== uidOf(pod.object)) {
      throw new ApiFailure(
        'Conflict',
        `Operation cannot be fulfilled on pods "${name}": the UID in the bound object reference (${uid}) does not match the UID in record. The object might have been deleted and then recreated`,
      );
    }
    return name;
  }

  #tokenReview(asked: JsonObject): JsonObject {
    const token = textAt(asked, 'spec', 'token');
    if (token === '') throw badRequest('token is required for TokenReview in authentication');
    const found = this.#authentication.review(token);
    if (typeof found === 'string') return { user: {}, error: `[${found}]` };
    const wanted = textsAt(asked, 'spec', 'audiences');
    const audiences = (wanted.length === 0 ? [API_AUDIENCE] : wanted).filter((one) => found.audiences.includes(one));
    if (audiences.length === 0) {
      const error = `[invalid bearer token, token audiences ${JSON.stringify(found.audiences)} is invalid for the target audiences ${JSON.stringify(wanted)}]`;
      return { user: {}, error };
    }
    return { authenticated: true, user: userInfo(found.user), audiences };
  }

  #accessReview(user: User, asked: JsonObject): JsonObject {
    const { allowed, reason } = this.#rbac.decide(user, accessOf(asked));
    return reason === '' ? { allowed } : { allowed, reason };
  }

  #rulesReview(user: User, namespace: string): JsonObject {
    const rules = this.#rbac.rules(user, namespace);
    return {
      resourceRules: rules.filter((rule) => listAt(rule, 'resources').length > 0),
      nonResourceRules: rules.filter((rule) => listAt(rule, 'nonResourceURLs').length > 0),
      incomplete: false,
    };
  }
}

export function userInfo({ username, uid, groups, extra }: User): JsonObject {
  return {
    username,
    ...(uid === '' ? {} : { uid }),
    groups,
    ...(Object.keys(extra).length === 0 ? {} : { extra: { ...extra } }),
  };
}

function subjectOf(asked: JsonObject): User {
  return {
    username: textAt(asked, 'spec', 'user'),
    uid: textAt(asked, 'spec', 'uid'),
    groups: textsAt(asked, 'spec', 'groups'),
    extra: {},
  };
}

function accessOf(asked: JsonObject): Access {
  const resource = at(asked, 'spec', 'resourceAttributes');
  const other = at(asked, 'spec', 'nonResourceAttributes');
  if ((resource === undefined) === (other === undefined)) {
    throw badRequest('exactly one of nonResourceAttributes or resourceAttributes must be specified');
  }
  return {
    path: textAt(other, 'path'),
    isResource: resource !== undefined,
    verb: textAt(resource ?? other, 'verb'),
    group: textAt(resource, 'group'),
    resource: textAt(resource, 'resource'),
    subresource: textAt(resource, 'subresource'),
    namespace: textAt(resource, 'namespace'),
    name: textAt(resource, 'name'),
  };
}
