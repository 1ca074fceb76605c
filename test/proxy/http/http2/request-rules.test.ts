import { expect, test } from 'vitest';
import { readRequest } from '../../../../proxy/http/http2/request-rules.ts';
import { REQUEST } from './support/raw-peer.ts';
import { LIMITS } from './support/recorders.ts';

/** First of all: the authority that was found good last must not be anybody's before there was one. */
test.each([0, 1])('an empty :authority is none, of the %d-th request of a worker too', () => {
  const headers = [...REQUEST.slice(0, 3), [':authority', ''] as const];
  expect(readRequest(headers, true, LIMITS)).toMatchObject({ status: 400 });
});
