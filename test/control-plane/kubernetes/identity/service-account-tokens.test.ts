import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KubernetesError } from '../../../../kubernetes/api/errors.ts';
import type { JsonObject } from '../../../../policy/types.ts';
import { newTokens, type PodShape, peerOf, podObject, type ReviewShape, reviewObject, tokenOf } from './support.ts';

const unreachable = (): never => {
  throw new KubernetesError('Unreachable', 0, 'no answer');
};
const proven = { namespace: 'shop', serviceAccount: 'orders', labels: {} };
const refusal = (status: number, reason: string) => expect.objectContaining({ status, reason });

describe('a service account token', () => {
  it('proves the identity of the pod that shows it', async () => {
    const { redeem, reviews } = newTokens();
    expect(await redeem()).toEqual(proven);
    expect(reviews).toEqual([
      {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token: tokenOf(), audiences: ['postern'] },
      },
    ]);
  });

  it.each<[string, Partial<ReviewShape>]>([
    ['is not authenticated', { authenticated: false }],
    ['is authenticated by a word', { authenticated: 'true' }],
    ['is for another audience', { audiences: ['https://kubernetes.default.svc'] }],
    ['is judged by a server that knows no audiences', { audiences: undefined }],
    ['has an audience that is no list', { audiences: 'postern' }],
    ['is a user’s', { username: 'system:admin' }],
    ['is a node’s', { username: 'system:node:worker-1' }],
    ['has a name with more in it', { username: 'system:serviceaccount:shop:orders:x' }],
    ['names no pod', { podName: undefined }],
    ['names no pod’s UID', { podUid: undefined }],
    ['names two pods', { podName: ['orders-1', 'orders-2'] }],
    ['names an empty UID', { podUid: [''] }],
  ])('is refused where it %s', async (_, shape) => {
    const { redeem } = newTokens(() => reviewObject(shape));
    await expect(redeem()).rejects.toEqual(refusal(401, 'token-refused'));
  });

  it.each<[string, Partial<PodShape>]>([
    ['is a later one of the same name', { uid: 'uid-2' }],
    ['runs as another service account', { serviceAccount: 'other' }],
    ['has another address', { addresses: ['10.0.0.8'] }],
    ['has succeeded', { phase: 'Succeeded' }],
    ['has failed', { phase: 'Failed' }],
    ['is on the node’s network', { hostNetwork: true }],
    ['is another', { name: 'orders-2' }],
    ['is in another namespace', { namespace: 'other' }],
  ])('is refused where the pod %s', async (_, shape) => {
    const { redeem, pods } = newTokens();
    pods.stored = [podObject(shape)];
    pods.cached = [podObject(shape)];
    await expect(redeem()).rejects.toEqual(refusal(403, 'pod-mismatch'));
  });

  it('proves nothing, in whatever combination anything of it or of its pod is wrong', async () => {
    const wrong = <T extends object>(values: { readonly [Key in keyof T]: readonly T[Key][] }) =>
      fc.record(
        Object.fromEntries(
          Object.entries(values).map(([key, choices]) => [key, fc.constantFrom(...(choices as unknown[]))]),
        ),
        { requiredKeys: [] },
      ) as fc.Arbitrary<Partial<T>>;
    const reviews = wrong<ReviewShape>({
      authenticated: [false, null, 'true', 1],
      audiences: [[], ['other'], null, 'postern'],
      username: ['system:serviceaccount:shop:other', 'system:serviceaccount:other:orders', 'admin', null],
      podName: [['orders-2'], [], null, 'orders-1'],
      podUid: [['uid-2'], [], null, ['']],
    });
    const shapes = wrong<PodShape>({
      namespace: ['other'],
      name: ['orders-2'],
      uid: ['uid-2x', ''],
      serviceAccount: ['others', ''],
      addresses: [[], ['10.0.0.8'], ['::ffff:10.0.0.8']],
      phase: ['Succeeded', 'Failed'],
      hostNetwork: [true],
    });
    await fc.assert(
      fc.asyncProperty(reviews, shapes, fc.boolean(), async (review, shape, cached) => {
        fc.pre(Object.keys(review).length + Object.keys(shape).length > 0);
        const { redeem, pods } = newTokens(() => reviewObject(review));
        pods.stored = [podObject(shape)];
        pods.cached = cached ? pods.stored : [];
        await expect(redeem()).rejects.toMatchObject({ status: expect.any(Number) });
      }),
      { numRuns: 300 },
    );
  });

  it.each(['orders', '', 'a.b', 'a.b.c.d', 'postern-join-x', 'a b.c.d', `${'a'.repeat(10)}..c`])(
    'is refused without a question where it is none: %j',
    async (token) => {
      const { redeem, reviews } = newTokens();
      await expect(redeem({ token })).rejects.toEqual(refusal(401, 'token-refused'));
      expect(reviews).toEqual([]);
    },
  );

  it('is refused beside the certificate of another identity', async () => {
    const { redeem } = newTokens();
    expect(await redeem({ peer: peerOf() })).toEqual(proven);
    await expect(redeem({ peer: peerOf('admin') })).rejects.toEqual(refusal(403, 'identity-mismatch'));
  });

  it('is in no message and no line of the log', async () => {
    const token = tokenOf();
    const echo = () => {
      throw new KubernetesError('Forbidden', 403, 'tokenreviews is forbidden');
    };
    for (const review of [() => reviewObject({ authenticated: false }), echo, unreachable]) {
      const { redeem, log } = newTokens(review);
      const error: unknown = await redeem({ token }).catch((thrown: unknown) => thrown);
      expect(String(error)).not.toContain(token.slice(0, 20));
      expect(JSON.stringify(log.lines)).not.toContain(token.slice(0, 20));
    }
  });
});

describe('the pod of a token', () => {
  it('is asked for once where what is known is behind', async () => {
    const { redeem, pods } = newTokens();
    await redeem();
    expect(pods.asked).toEqual([]);
    for (const cached of [[], [podObject({ uid: 'uid-0' })], [podObject({ addresses: [] })]]) {
      pods.asked.length = 0;
      pods.cached = cached;
      expect(await redeem()).toEqual(proven);
      expect(pods.asked).toEqual(['shop/orders-1']);
    }
  });

  it('may be known soon: the sidecar is to try again', async () => {
    const { redeem, pods } = newTokens();
    pods.cached = [];
    pods.stored = [podObject({ addresses: [] })];
    await expect(redeem()).rejects.toEqual(refusal(503, 'token-unverified'));
    pods.fault = new KubernetesError('Unreachable', 0, 'no answer');
    await expect(redeem()).rejects.toEqual(refusal(503, 'token-unverified'));
  });

  it('is not asked for without end on behalf of one service account', async () => {
    const { redeem, pods } = newTokens();
    pods.cached = [];
    pods.stored = [];
    for (let index = 0; index < 400; index++) await redeem().catch(() => {});
    expect(pods.asked.length).toBeLessThanOrEqual(250);
  });
});

describe('whoever shows tokens without end', () => {
  it('uses up its own share of what is verified, and nobody else’s', async () => {
    const { redeem, reviews, pods } = newTokens();
    pods.stored = pods.cached = [podObject({ addresses: ['10.0.0.7', '10.0.0.8'] })];
    const junk = (index: number) => `${tokenOf()}${index}`;
    for (let index = 0; index < 1_000; index++) await redeem({ token: junk(index) }).catch(() => {});
    expect(reviews.length).toBeLessThan(50);
    await expect(redeem({ token: junk(2_000) })).rejects.toEqual(refusal(503, 'token-unverified'));
    expect(await redeem({ peerAddress: '10.0.0.8' })).toEqual(proven);
  });
});

describe('a good review', () => {
  it('counts for ten seconds and no longer, and is asked for once by many at once', async () => {
    const { redeem, reviews, clock } = newTokens();
    await Promise.all([redeem(), redeem(), redeem()]);
    expect(reviews).toHaveLength(1);
    clock.now = 9_999;
    await redeem();
    expect(reviews).toHaveLength(1);
    clock.now = 10_000;
    await redeem();
    expect(reviews).toHaveLength(2);
  });

  it('does not spare the pod a look', async () => {
    const { redeem, pods } = newTokens();
    await redeem();
    await expect(redeem({ peerAddress: '10.0.0.9' })).rejects.toEqual(refusal(403, 'pod-mismatch'));
    pods.cached = pods.stored = [];
    await expect(redeem()).rejects.toEqual(refusal(403, 'pod-mismatch'));
  });

  it('is the only one that is remembered', async () => {
    const { redeem, reviews } = newTokens(() => reviewObject({ authenticated: false }));
    for (let index = 0; index < 2; index++) await redeem().catch(() => {});
    expect(reviews).toHaveLength(2);
  });
});

describe('while the API server is away', () => {
  it('a certificate of the identity that the token names is proof, from the pod that it names', async () => {
    const { redeem, log } = newTokens(unreachable);
    expect(await redeem({ peer: peerOf() })).toEqual(proven);
    expect(log.lines).toHaveLength(1);
  });

  it('so it is while the API server, its clock being another, takes the token of the control plane itself for expired', async () => {
    const { redeem, log } = newTokens(() => {
      throw new KubernetesError('Unauthorized', 401, 'POST tokenreviews was refused');
    });
    expect(await redeem({ peer: peerOf() })).toEqual(proven);
    await expect(redeem()).rejects.toEqual(refusal(503, 'token-unverified'));
    expect(JSON.stringify(log.lines)).toMatch(/own service account token.*clock/);
  });

  it.each<[string, (tokens: ReturnType<typeof newTokens>) => Promise<unknown>]>([
    ['no certificate', ({ redeem }) => redeem()],
    ['a certificate of another identity', ({ redeem }) => redeem({ peer: peerOf('admin') })],
    [
      'a token of another identity',
      ({ redeem }) => redeem({ peer: peerOf(), token: tokenOf({ serviceAccount: 'admin' }) }),
    ],
    ['a token that names no pod', ({ redeem }) => redeem({ peer: peerOf(), token: 'a.b.c' })],
    ['another address', ({ redeem }) => redeem({ peer: peerOf(), peerAddress: '10.0.0.8' })],
    [
      'a pod that is not known',
      ({ redeem, pods }) => {
        pods.cached = [];
        return redeem({ peer: peerOf() });
      },
    ],
  ])('there is no proof in %s', async (_, attempt) => {
    await expect(attempt(newTokens(unreachable))).rejects.toEqual(refusal(503, 'token-unverified'));
  });

  it.each<[string, () => JsonObject]>([
    [
      'refuses this control plane',
      () => {
        throw new KubernetesError('Forbidden', 403, 'forbidden');
      },
    ],
    [
      'wants to be asked less',
      () => {
        throw new KubernetesError('TooManyRequests', 429, 'slow down');
      },
    ],
    [
      'makes no sense',
      () => {
        throw new KubernetesError('Malformed', 200, 'not JSON');
      },
    ],
  ])('a certificate is no proof where the server only %s', async (_, review) => {
    await expect(newTokens(review).redeem({ peer: peerOf() })).rejects.toEqual(refusal(503, 'token-unverified'));
  });

  it.each([
    ['so many in a second', 500],
    ['so many that wait', 350],
  ])('a certificate is no proof because of %s', async (_, count) => {
    const answers = Promise.withResolvers<void>();
    const { redeem } = newTokens(async () => {
      await answers.promise;
      return reviewObject({ authenticated: false });
    });
    // Each another token of the right pod, shown with the right certificate.
    const attempts = Array.from({ length: count }, (_, index) =>
      redeem({ peer: peerOf(), token: tokenOf({}, `signature-${index}`) }),
    );
    answers.resolve();
    const outcomes = await Promise.allSettled(attempts);
    const reasons = outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.reason);
    expect(new Set(reasons)).toEqual(new Set(['token-refused', 'token-unverified']));
  });
});
