import { createHash, createPublicKey, type KeyObject, randomUUID, sign, verify } from 'node:crypto';
import { asObject } from '../../../policy/json.ts';
import type { JsonObject } from '../../../policy/types.ts';
import { newKey } from './certificates.ts';
import { at, isDeleting, textAt, textsAt, uidOf } from './objects.ts';
import type { Store } from './store.ts';

/** Of the API server itself: where a token for another audience is used, it is refused. */
export const API_AUDIENCE = 'https://kubernetes.default.svc.cluster.local';
const ISSUER = API_AUDIENCE;

/**
 * What `--service-account-extend-token-expiration`, on by default, does for the tokens by which pods reach the API server: those of exactly this life
 * are good for a year, so that clients that never read theirs again go on; the kubelet still makes them anew as if they were not.
 */
const EXTENDED = { asked: 3607, given: 365 * 86_400 } as const;

/** Seconds for which a token outlives the deletion timestamp of what it is bound to, as upstream has it. */
const DELETION_LEEWAY = 60;

export interface User {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: { readonly [key: string]: readonly string[] };
}

export interface TokenRequest {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly audiences: readonly string[];
  /** From now; negative for a token that is over already. */
  readonly seconds: number;
  /** Name of the pod to which it is bound. */
  readonly pod?: string;
}

export interface VerifiedToken {
  readonly user: User;
  readonly audiences: readonly string[];
}

const encode = (value: JsonObject): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Service account tokens: issued and verified against what the store holds. */
export class ServiceAccountTokens {
  readonly #store: Store;
  readonly #key: KeyObject = newKey();
  readonly #keyId: string;
  /** Of the server, milliseconds: tests may put it wrong. */
  readonly #now: () => number;

  constructor(store: Store, now: () => number) {
    this.#store = store;
    this.#now = now;
    this.#keyId = createHash('sha256')
      .update(this.#key.export({ type: 'pkcs8', format: 'der' }))
      .digest('base64url');
  }

  /** `expiresAt`: what the answer to a TokenRequest says, milliseconds. @throws Error where the account or the pod does not exist. */
  issue(request: TokenRequest): { readonly token: string; readonly expiresAt: number } {
    const { namespace, serviceAccount, seconds } = request;
    const account = this.#store.get('/serviceaccounts', namespace, serviceAccount);
    if (account === null) throw new Error(`there is no service account ${namespace}/${serviceAccount}`);
    const pod = request.pod === undefined ? null : this.#store.get('/pods', namespace, request.pod);
    if (request.pod !== undefined && pod === null) throw new Error(`there is no pod ${namespace}/${request.pod}`);
    const issued = Math.floor(this.#now() / 1000);
    const from = seconds < 0 ? issued + seconds - 1 : issued;
    const isExtended = seconds === EXTENDED.asked && pod !== null && request.audiences.length === 0;
    const claims = {
      aud: request.audiences.length === 0 ? [API_AUDIENCE] : request.audiences,
      exp: issued + (isExtended ? EXTENDED.given : seconds),
      iat: from,
      nbf: from,
      iss: ISSUER,
      jti: randomUUID(),
      sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
      'kubernetes.io': {
        namespace,
        serviceaccount: { name: serviceAccount, uid: uidOf(account.object) },
        ...(pod === null ? {} : { pod: { name: pod.name, uid: uidOf(pod.object) } }),
        ...(isExtended ? { warnafter: issued + seconds } : {}),
      },
    };
    const body = `${encode({ alg: 'ES256', kid: this.#keyId, typ: 'JWT' })}.${encode(claims)}`;
    const signature = sign('sha256', Buffer.from(body), { key: this.#key, dsaEncoding: 'ieee-p1363' });
    return { token: `${body}.${signature.toString('base64url')}`, expiresAt: (issued + seconds) * 1000 };
  }

  /** Null: it is not a token of ours at all. A text: what is wrong about it. */
  verify(token: string): VerifiedToken | string | null {
    const claims = this.#claims(token);
    if (claims === null) return null;
    const now = this.#now() / 1000;
    if (Number(at(claims, 'exp') ?? 0) <= now) return 'invalid bearer token, service account token has expired';
    if (Number(at(claims, 'nbf') ?? 0) > now + 1) return 'invalid bearer token, service account token is not valid yet';
    const namespace = textAt(claims, 'kubernetes.io', 'namespace');
    const name = textAt(claims, 'kubernetes.io', 'serviceaccount', 'name');
    const uid = textAt(claims, 'kubernetes.io', 'serviceaccount', 'uid');
    const account = this.#store.get('/serviceaccounts', namespace, name);
    if (account === null || uidOf(account.object) !== uid)
      return 'invalid bearer token, service account token has been invalidated';
    const bound = this.#boundTo(claims, namespace);
    if (bound === null) return 'invalid bearer token, service account token has been invalidated';
    return {
      audiences: textsAt(claims, 'aud'),
      user: {
        username: `system:serviceaccount:${namespace}:${name}`,
        uid,
        groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
        extra: { 'authentication.kubernetes.io/credential-id': [`JTI=${textAt(claims, 'jti')}`], ...bound },
      },
    };
  }

  /** The public key as `/openid/v1/jwks` shows it. */
  jwks(): JsonObject {
    const { kty, crv, x, y } = createPublicKey(this.#key).export({ format: 'jwk' });
    return {
      keys: [{ use: 'sig', alg: 'ES256', kid: this.#keyId, kty: kty ?? '', crv: crv ?? '', x: x ?? '', y: y ?? '' }],
    };
  }

  openIdConfiguration(): JsonObject {
    return {
      issuer: ISSUER,
      jwks_uri: `${ISSUER}/openid/v1/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['ES256'],
    };
  }

  #claims(token: string): JsonObject | null {
    const [header = '', body = '', signature = '', ...more] = token.split('.');
    if (signature === '' || more.length > 0) return null;
    const options = { key: this.#key, dsaEncoding: 'ieee-p1363' } as const;
    const bytes = Buffer.from(signature, 'base64url');
    if (!verify('sha256', Buffer.from(`${header}.${body}`), options, bytes)) return null;
    return asObject(JSON.parse(Buffer.from(body, 'base64url').toString()));
  }

  /** What the pod adds to the user; null where the token is bound to a pod that is no more. */
  #boundTo(claims: JsonObject, namespace: string): User['extra'] | null {
    const name = textAt(claims, 'kubernetes.io', 'pod', 'name');
    if (name === '') return {};
    const uid = textAt(claims, 'kubernetes.io', 'pod', 'uid');
    const pod = this.#store.get('/pods', namespace, name)?.object;
    if (pod === undefined || uidOf(pod) !== uid) return null;
    if (isDeleting(pod)) {
      const gone = Date.parse(textAt(pod, 'metadata', 'deletionTimestamp')) / 1000 + DELETION_LEEWAY;
      if (gone < this.#now() / 1000) return null;
    }
    const node = textAt(pod, 'spec', 'nodeName');
    return {
      'authentication.kubernetes.io/pod-name': [name],
      'authentication.kubernetes.io/pod-uid': [uid],
      ...(node === '' ? {} : { 'authentication.kubernetes.io/node-name': [node] }),
    };
  }
}
