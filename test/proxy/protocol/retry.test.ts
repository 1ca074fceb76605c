import { describe, expect, test } from 'vitest';
import { isServerFailure, maySendAgain } from '../../../proxy/protocol/retry.ts';

describe('what may be sent again', () => {
  test.each([
    ['GET', true, true],
    ['HEAD', true, true],
    ['OPTIONS', true, true],
    ['TRACE', true, true],
    ['PUT', true, true],
    ['DELETE', true, true],
    ['POST', true, false],
    ['PATCH', true, false],
    ['CONNECT', true, false],
    // Nobody knows what it does.
    ['FROBNICATE', true, false],
    ['get', true, false],
  ])('%s: refused: %s, reset: %s', (method, refused, reset) => {
    expect(maySendAgain('refused', method)).toBe(refused);
    expect(maySendAgain('reset', method)).toBe(reset);
    expect(maySendAgain('timeout', method)).toBe(false);
    expect(maySendAgain('protocol', method)).toBe(false);
  });
});

describe('what counts against an endpoint', () => {
  test.each([
    [200, null, false],
    [404, null, false],
    [429, null, false],
    [499, null, false],
    [500, null, true],
    [503, null, true],
    [200, 0, false],
    // NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED: answers.
    [200, 5, false],
    [200, 7, false],
    [200, 8, false],
    // UNKNOWN, INTERNAL, UNAVAILABLE: failures.
    [200, 2, true],
    [200, 13, true],
    [200, 14, true],
  ])('status %i, grpc-status %s: %s', (status, grpcStatus, expected) => {
    expect(isServerFailure(status, grpcStatus)).toBe(expected);
  });
});
