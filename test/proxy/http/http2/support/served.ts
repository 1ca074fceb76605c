import { Http2ClientSession } from '../../../../../proxy/http/http2/client-session.ts';
import { Http2ServerSession } from '../../../../../proxy/http/http2/server-session.ts';
import { StagingPool } from '../../../../../proxy/http2/staging.ts';
import type { HttpLimits } from '../../../../../proxy/worker/messages.ts';
import { FakeChannel } from './fake-channel.ts';
import { FakeLoop } from './fake-loop.ts';
import { RawPeer } from './raw-peer.ts';
import { LIMITS, SeenRequests, SeenSession } from './recorders.ts';

export const staging = new StagingPool();

export interface Served {
  readonly loop: FakeLoop;
  readonly channel: FakeChannel;
  readonly peer: RawPeer;
  readonly requests: SeenRequests;
  readonly session: Http2ServerSession;
}

type Settings = readonly (readonly [number, number])[];

/** A server session and the raw client of its channel, which has said preface and SETTINGS; null: nothing yet. */
export function served(limits: Partial<HttpLimits> = {}, settings: Settings | null = []): Served {
  const loop = new FakeLoop();
  const channel = new FakeChannel(loop);
  const peer = new RawPeer(loop, channel, 'client');
  const requests = new SeenRequests();
  const session = new Http2ServerSession(loop.loop, channel, { ...LIMITS, ...limits }, staging, requests);
  if (settings !== null) peer.open(settings);
  return { loop, channel, peer, requests, session };
}

export interface Asked {
  readonly loop: FakeLoop;
  readonly channel: FakeChannel;
  readonly peer: RawPeer;
  readonly owner: SeenSession;
  readonly session: Http2ClientSession;
}

/** A client session and the raw server of its channel, which has said SETTINGS. */
export function asked(limits: Partial<HttpLimits> = {}, settings: Settings = []): Asked {
  const loop = new FakeLoop();
  const channel = new FakeChannel(loop);
  const peer = new RawPeer(loop, channel, 'server');
  const owner = new SeenSession();
  const session = new Http2ClientSession(loop.loop, channel, { ...LIMITS, ...limits }, staging, owner);
  loop.settle();
  peer.open(settings, false);
  return { loop, channel, peer, owner, session };
}
