import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FairConnections } from '../../mesh/fair-connections.ts';

class FakeSocket extends EventEmitter {
  readonly remoteAddress: string;
  destroyed = false;

  constructor(address: string) {
    super();
    this.remoteAddress = address;
  }

  destroy(): void {
    this.destroyed = true;
  }
}

function bounded(most: number, mostPerAddress: number) {
  const connections = new FairConnections({ most, mostPerAddress });
  return (address: string): FakeSocket => {
    const socket = new FakeSocket(address);
    connections.take(socket as unknown as Socket);
    return socket;
  };
}

const lives = (sockets: readonly FakeSocket[]): readonly boolean[] => sockets.map(({ destroyed }) => !destroyed);

test('one address has at most so many, until one of them closes', () => {
  const connect = bounded(10, 2);
  const sockets = [connect('a'), connect('a'), connect('a'), connect('b')];
  expect(lives(sockets)).toEqual([true, true, false, true]);
  sockets[0]?.emit('close');
  expect(lives([connect('a'), connect('a')])).toEqual([true, false]);
});

test('where there are too many in all, whoever has most loses the newest', () => {
  const connect = bounded(4, 4);
  const greedy = [connect('a'), connect('a'), connect('a'), connect('a')];
  const modest = [connect('b'), connect('c')];
  expect(lives(modest)).toEqual([true, true]);
  expect(lives(greedy)).toEqual([true, true, false, false]);
  expect(connect('a').destroyed).toBe(true);
});

test('whoever closes twice frees one place', () => {
  const connect = bounded(2, 2);
  const [first] = [connect('a'), connect('b')];
  first.emit('close');
  first.emit('close');
  expect(lives([connect('c'), connect('c')])).toEqual([true, false]);
});

test('there are never more than the bounds, and a first connection is refused only where nobody has two', () => {
  const steps = fc.array(fc.record({ address: fc.constantFrom('a', 'b', 'c', 'd', 'e'), close: fc.boolean() }));
  fc.assert(
    fc.property(steps, (sequence) => {
      const connect = bounded(4, 3);
      let open: FakeSocket[] = [];
      for (const { address, close } of sequence) {
        if (close) open.find((one) => one.remoteAddress === address)?.emit('close');
        if (close) open = open.filter((one) => one !== open.find((other) => other.remoteAddress === address));
        const before = new Map(Map.groupBy(open, (one) => one.remoteAddress));
        const socket = connect(address);
        open = [...open, socket].filter(({ destroyed }) => !destroyed);
        expect(open.length).toBeLessThanOrEqual(4);
        const greatest = Math.max(0, ...Array.from(before.values(), ({ length }) => length));
        if (!before.has(address) && greatest > 1) expect(socket.destroyed).toBe(false);
      }
    }),
  );
});
