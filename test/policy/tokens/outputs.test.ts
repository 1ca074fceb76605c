import { describe, expect, it, test } from 'vitest';
import { removeTokens } from '../../../policy/tokens/locations.ts';
import { foldedName, removeHeaders, setOutputs } from '../../../policy/tokens/outputs.ts';
import type { JsonObject, JsonValue } from '../../../policy/types.ts';
import { FakeHead } from './fake-head.ts';
import { compiled, RULE, requestAuthentication } from './objects.ts';

function output(claims: JsonObject, claim: string): string | null {
  const head = new FakeHead();
  setOutputs(head, { payload: null, claims: [{ header: 'x', path: claim.split('.') }] }, claims, '');
  return head.get('x');
}

describe('a claim in a header', () => {
  it.each<[string, JsonValue, string | null]>([
    ['a text', 'alice', 'alice'],
    ['a text beyond ASCII, as UTF-8', 'é', '\xc3\xa9'],
    ['a whole number', 42, '42'],
    ['a whole number written as 1e3', 1e3, '1000'],
    ['a boolean', false, 'false'],
    ['a fraction', 1.5, null],
    ['a number that a double does not hold exactly', 2 ** 60, null],
    ['a list', ['a'], null],
    ['an object', { a: 1 }, null],
    ['null', null, null],
    ['an empty text', '', null],
    ['a text with a line break', 'a\r\nx-admin: 1', null],
    ['a text with NUL', 'a\0', null],
    ['a text with a blank at its end', 'alice ', null],
    ['a text that is no Unicode', '\ud800', null],
  ])('%s', (_what, value, expected) => {
    expect(output({ c: value }, 'c')).toBe(expected);
  });

  it.each([
    ['a.b', { a: { b: 'x' } }, 'x'],
    ['a.b', { 'a.b': 'x' }, null],
    ['a.b', { a: 'x' }, null],
    ['a.0', { a: ['x'] }, null],
    ['toString', {}, null],
    ['constructor.name', {}, null],
    ['__proto__.x', {}, null],
  ])('%s of %j is %s', (claim, claims, expected) => {
    expect(output(claims, claim)).toBe(expected);
  });
});

test('the payload goes on as it was in the token', () => {
  const head = new FakeHead();
  setOutputs(head, { payload: 'x-payload', claims: [] }, {}, 'eyJhIjoxfQ');
  expect(head.get('x-payload')).toBe('eyJhIjoxfQ');
});

describe('headers that only rules may set', () => {
  const rules = compiled(
    requestAuthentication([
      { ...RULE, outputPayloadToHeader: 'X-Payload', outputClaimToHeaders: [{ header: 'X_User', claim: 'sub' }] },
    ]),
  );

  test('are those of every rule', () => {
    expect([...rules.outputHeaders]).toEqual(['x-payload', 'x-user']);
    expect(rules.asksPayload).toBe(true);
  });

  it.each(['x-payload', 'x_payload', 'x-user', 'x_user'])('are removed where the client sent %s', (name) => {
    const head = new FakeHead([
      [name, 'root'],
      ['x-userx', 'kept'],
      [name, 'root'],
    ]);
    removeHeaders(head, rules.outputHeaders);
    expect(head.lines()).toEqual([['x-userx', 'kept']]);
  });

  test('are the same with an underscore and a hyphen', () => {
    expect(foldedName('a_b_c')).toBe('a-b-c');
  });
});

describe('a token that is not forwarded', () => {
  it.each([
    ['/a?access_token=t', '/a'],
    ['/a?access_token=t&x=1', '/a?x=1'],
    ['/a?x=1&access_token=t&y=%20', '/a?x=1&y=%20'],
    ['/a?access_token=t&%61ccess_token=t', '/a'],
    ['/a?access_tokenx=1&&access_token=t', '/a?access_tokenx=1&'],
    ['/a?x=access_token=t', '/a?x=access_token=t'],
  ])('is taken out of %s', (target, expected) => {
    const head = new FakeHead([], target);
    removeTokens(head, [{ text: 't', in: 'param', name: 'access_token' }]);
    expect(head.target).toBe(expected);
  });

  test('is taken out of its header, and stays in a cookie', () => {
    const head = new FakeHead([
      ['authorization', 'Bearer t'],
      ['cookie', 't=t'],
    ]);
    removeTokens(head, [
      { text: 't', in: 'header', name: 'authorization' },
      { text: 't', in: 'cookie', name: 't' },
    ]);
    expect(head.lines()).toEqual([['cookie', 't=t']]);
  });
});
