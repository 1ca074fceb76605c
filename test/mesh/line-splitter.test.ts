import { expect, it } from 'vitest';
import { LineSplitter } from '../../mesh/line-splitter.ts';

it('finds the lines however the bytes are cut', () => {
  const bytes = Buffer.from('{"a":1}\n\r\n{"ü":2}\r\n{"c"');
  for (let size = 1; size <= bytes.length; size += 1) {
    const splitter = new LineSplitter(64, 'a peer');
    const lines: string[] = [];
    for (let at = 0; at < bytes.length; at += size) lines.push(...splitter.push(bytes.subarray(at, at + size)));
    expect(lines).toEqual(['{"a":1}', '{"ü":2}']);
  }
});

it('refuses a line over the limit before it is complete', () => {
  const splitter = new LineSplitter(8, 'a peer');
  expect([...splitter.push(Buffer.from('12345678\n1234'))]).toEqual(['12345678']);
  expect(() => [...splitter.push(Buffer.from('56789'))]).toThrow(/more than 8 bytes from a peer/);
});
