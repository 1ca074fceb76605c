import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { ApiError } from '../../../control-plane/api-error.ts';
import { ControlPlaneMetrics } from '../../../control-plane/metrics.ts';
import type { TokenCircumstances } from '../../../control-plane/platform.ts';
import type { Caller } from '../../../control-plane/server/api.ts';
import { type CertificatesOptions, certificatesHandler } from '../../../control-plane/server/certificates.ts';
import type { PeerIdentity } from '../../../control-plane/server/peer-identity.ts';
import { RateLimit } from '../../../control-plane/server/rate-limit.ts';
import { type StreamsOptions, streamHandler } from '../../../control-plane/server/streams.ts';
import { spiffeId } from '../../../mesh/spiffe-id.ts';
import { newCsr } from '../ca/support.ts';

const peerOf = (serviceAccount: string, namespace = 'shop'): PeerIdentity => ({
  spiffeId: spiffeId('cluster.local', namespace, serviceAccount),
  serial: '1',
  notAfter: Date.now() + 60_000,
  chain: [],
});

function requestOf(body: unknown): IncomingMessage {
  const stream = new PassThrough();
  stream.end(JSON.stringify(body));
  return Object.assign(stream, {
    socket: { localAddress: '10.0.0.1', localPort: 15012 },
  }) as unknown as IncomingMessage;
}

/** Keeps the status; `destroyed` may be set by the test. */
function newResponse() {
  const seen = { status: 0 };
  const response = {
    destroyed: false,
    writeHead: (status: number) => {
      seen.status = status;
      return response;
    },
    end: () => response,
    once: () => response,
    on: () => response,
    flushHeaders: () => {},
  };
  return { seen, response, asResponse: response as unknown as ServerResponse };
}

/** `judge` is asked each time who the client certificate shows. */
const callerOf = (options: { readonly bearer?: string; readonly judge?: () => PeerIdentity }): Caller => ({
  address: '10.0.0.7',
  bearer: options.bearer ?? null,
  hasCertificate: options.judge !== undefined,
  identity: () => options.judge?.() ?? thrown(new ApiError(401, 'no-certificate', 'none')),
});

const thrown = (error: Error): never => {
  throw error;
};

function certificates(options: Partial<CertificatesOptions> = {}) {
  const redeemed: TokenCircumstances[] = [];
  const issued: string[] = [];
  const handler = certificatesHandler({
    authority: {
      trustDomain: 'cluster.local',
      issueWorkload: ({ namespace, serviceAccount }) => {
        issued.push(`${namespace}/${serviceAccount}`);
        return { chain: '', roots: [], spiffeId: '', notBefore: 0, notAfter: 0, serial: '' };
      },
    },
    tokens: {
      redeem: async (_token, circumstances) => {
        redeemed.push(circumstances);
        return { namespace: 'shop', serviceAccount: 'orders', labels: {} };
      },
    },
    renewsByCertificate: () => true,
    isRevoked: () => false,
    bindLabels: () => {},
    limits: { byAddress: new RateLimit(100, 100), byIdentity: new RateLimit(100, 100) },
    metrics: new ControlPlaneMetrics(),
    ...options,
  });
  const ask = async (caller: Caller, response = newResponse()) => {
    await handler(caller, requestOf({ csr: newCsr() }), response.asResponse);
    return response.seen.status;
  };
  return { ask, redeemed, issued };
}

describe('the proof of an identity', () => {
  it('is the token with the certificate beside it, judged before', async () => {
    const { ask, redeemed } = certificates();
    const peer = peerOf('orders');
    expect(await ask(callerOf({ bearer: 'token', judge: () => peer }))).toBe(200);
    expect(redeemed).toEqual([{ publicKeyHash: expect.any(String), peerAddress: '10.0.0.7', peer }]);
  });

  it('is the token alone where the certificate beside it is not good any more', async () => {
    const { ask, redeemed } = certificates();
    const judge = () => thrown(new ApiError(403, 'expired', 'it has expired'));
    expect(await ask(callerOf({ bearer: 'token', judge }))).toBe(200);
    expect(redeemed).toMatchObject([{ peer: null }]);
  });

  it('is not a certificate alone where a token is needed each time', async () => {
    const { ask, issued } = certificates({
      renewsByCertificate: ({ spiffeId: { uri } }, address) => uri.endsWith('/sa/vm') && address === '10.0.0.7',
    });
    await expect(ask(callerOf({ judge: () => peerOf('orders') }))).rejects.toMatchObject({ reason: 'token-needed' });
    expect(await ask(callerOf({ judge: () => peerOf('vm') }))).toBe(200);
    expect(issued).toEqual(['shop/vm']);
  });

  it('never gives a workload the identity of the control plane', async () => {
    const own = { namespace: 'postern-system', serviceAccount: 'control-plane' };
    const byToken = certificates({ tokens: { redeem: () => ({ ...own, labels: {} }) } });
    await expect(byToken.ask(callerOf({ bearer: 'token' }))).rejects.toMatchObject({ reason: 'identity-reserved' });
    const judge = () => peerOf(own.serviceAccount, own.namespace);
    await expect(byToken.ask(callerOf({ judge }))).rejects.toMatchObject({ reason: 'identity-reserved' });
    expect(byToken.issued).toEqual([]);
  });

  it('comes to nothing where the one who asked has gone, or was revoked, while it was verified', async () => {
    const response = newResponse();
    const gone = certificates({
      tokens: {
        redeem: async () => {
          response.response.destroyed = true;
          return { namespace: 'shop', serviceAccount: 'orders', labels: {} };
        },
      },
    });
    await gone.ask(callerOf({ bearer: 'token' }), response);
    expect(gone.issued).toEqual([]);
    let revoked = false;
    const late = certificates({
      isRevoked: () => revoked,
      tokens: {
        redeem: async () => {
          revoked = true;
          return { namespace: 'shop', serviceAccount: 'orders', labels: {} };
        },
      },
    });
    await expect(late.ask(callerOf({ bearer: 'token' }))).rejects.toMatchObject({ reason: 'revoked' });
    expect(late.issued).toEqual([]);
  });
});

describe('a stream whose admission takes a while', () => {
  const body = {
    workload: {
      name: 'orders-1',
      namespace: 'shop',
      serviceAccount: 'orders',
      labels: {},
      addresses: [],
      tunnel: null,
      ports: {},
    },
    proxyVersion: 'test',
    resume: null,
  };

  function stream(during: () => void) {
    const registered: unknown[] = [];
    const options = {
      pusher: { countOf: () => 0, open: () => {}, close: () => {} },
      registrations: {
        register: (workload: unknown) => {
          registered.push(workload);
          return { changed: true };
        },
      },
      admission: {
        admit: async (workload: unknown) => {
          during();
          return { workload, identity: 'spiffe://cluster.local/ns/shop/sa/orders' };
        },
      },
    };
    return { registered, handler: streamHandler(options as unknown as StreamsOptions) };
  }

  it('is registered where nothing has changed meanwhile', async () => {
    const { registered, handler } = stream(() => {});
    await handler(callerOf({ judge: () => peerOf('orders') }), requestOf(body), newResponse().asResponse);
    expect(registered).toHaveLength(1);
  });

  it('is refused where its certificate was revoked meanwhile', async () => {
    let revoked = false;
    const { registered, handler } = stream(() => {
      revoked = true;
    });
    const judge = () => (revoked ? thrown(new ApiError(403, 'revoked', 'revoked')) : peerOf('orders'));
    await expect(handler(callerOf({ judge }), requestOf(body), newResponse().asResponse)).rejects.toMatchObject({
      reason: 'revoked',
    });
    expect(registered).toEqual([]);
  });

  it('is forgotten where the sidecar has gone meanwhile', async () => {
    const response = newResponse();
    const { registered, handler } = stream(() => {
      response.response.destroyed = true;
    });
    await handler(callerOf({ judge: () => peerOf('orders') }), requestOf(body), response.asResponse);
    expect(registered).toEqual([]);
  });
});
