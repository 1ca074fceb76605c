import { METHODS } from 'node:http';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BodyDecoder } from '../../../../proxy/protocol/http1/body-decoder.ts';
import { parseRequestHead, parseResponseHead } from '../../../../proxy/protocol/http1/head-parser.ts';
import { mutated, requestBytes, responseBytes } from './generators.ts';
import { comparable, NodeServer, nodeResponseIn, type Understood } from './node-parser.ts';
import { bytesOf, decodeInPieces, LIMITS } from './support.ts';

/** How a connection ends for us: all is understood, more bytes are awaited, a message was refused, or a message was the last. */
type End = 'all' | 'incomplete' | 'refused' | 'last';

function ourRequestsIn(bytes: Buffer): { readonly messages: readonly Understood[]; readonly end: End } {
  const messages: Understood[] = [];
  const decoder = new BodyDecoder(LIMITS);
  for (let p = 0; p < bytes.length; ) {
    const result = parseRequestHead(bytes, p, bytes.length, LIMITS);
    if (result.kind === 'error') return { messages, end: 'refused' };
    if (result.kind === 'incomplete') return { messages, end: 'incomplete' };
    decoder.begin(result.framing);
    const { body, done, failure, trailers, taken } = decodeInPieces(decoder, bytes, [], result.end);
    if (failure !== null) return { messages, end: 'refused' };
    if (!done) return { messages, end: 'incomplete' };
    const { head } = result;
    messages.push({
      first: `${head.method} ${head.target}`,
      fields: comparable([...head.lines(), ...trailers], []),
      body,
    });
    if (!result.keepAlive) return { messages, end: 'last' };
    p = result.end + taken;
  }
  return { messages, end: 'all' };
}

function ourResponseIn(bytes: Buffer, method: string): Understood | null {
  for (let p = 0; ; ) {
    const result = parseResponseHead(bytes, p, bytes.length, LIMITS, method);
    if (result.kind !== 'head') return null;
    const { head } = result;
    p = result.end;
    if (head.status < 200) continue;
    const decoder = new BodyDecoder(LIMITS);
    decoder.begin(result.framing);
    const { body, trailers } = decodeInPieces(decoder, bytes, [], p);
    decoder.endOfInput();
    if (!decoder.done) return null;
    return { first: String(head.status), fields: comparable([...head.lines(), ...trailers], []), body };
  }
}

/** Node gives an absolute target as it came. Its authority is that of Host, else we refuse; for HTTP/1.0 without Host it becomes Host. */
function inOriginForm(one: Understood): Understood {
  const [method, target = ''] = one.first.split(' ');
  const absolute = /^http:\/\/([^/?]*)(.*)$/i.exec(target);
  if (absolute === null) return one;
  const [, authority, rest = ''] = absolute;
  const path = rest.startsWith('/') ? rest : method === 'OPTIONS' && rest === '' ? '*' : `/${rest}`;
  const hosts = one.fields.filter((line) => line.startsWith('host: '));
  const fields = hosts.length > 0 ? one.fields : [...one.fields, `host: ${authority}`].sort();
  return { ...one, first: `${method} ${path}`, fields };
}

describe('where we and Node disagree, it is we who refuse', () => {
  test('of requests: what we pass on Node understands the same, and finds no request that we do not', async () => {
    const node = new NodeServer();
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(mutated(requestBytes), async (bytes) => {
        const { messages, end } = ourRequestsIn(bytes);
        // Node has a closed list of methods, we have a form: that much more we pass on.
        fc.pre(messages.every(({ first }) => METHODS.includes(first.split(' ')[0] ?? '')));
        const theirs = (await node.requestsIn(bytes)).map(inOriginForm);
        expect(theirs.slice(0, messages.length)).toEqual(messages);
        if (end !== 'refused') expect(theirs.length).toBe(messages.length);
        if (messages.length > 0) compared++;
      }),
      { numRuns: 3_000 },
    );
    expect(compared).toBeGreaterThan(300);
  });

  test('of responses', async () => {
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(mutated(responseBytes), fc.constantFrom('GET', 'HEAD'), async (bytes, method) => {
        const ours = ourResponseIn(bytes, method);
        if (ours === null) return;
        compared++;
        expect(await nodeResponseIn(bytes, method)).toEqual(ours);
      }),
      { numRuns: 5_000 },
    );
    expect(compared).toBeGreaterThan(300);
  });

  test('the comparison sees what Node makes of a request that we refuse', async () => {
    const bytes = bytesOf('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\nhello');
    expect(ourRequestsIn(bytes)).toEqual({ messages: [], end: 'refused' });
    expect(await new NodeServer().requestsIn(bytes)).toEqual([{ first: 'POST /', fields: ['host: a'], body: 'hello' }]);
  });
});
