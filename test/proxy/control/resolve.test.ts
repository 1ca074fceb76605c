import { expect, it } from 'vitest';
import { ControlPlaneResolver } from '../../../proxy/control/resolve.ts';
import type { SocketAddress } from '../../../proxy/worker/messages.ts';
import { FakeClock, settle } from './support/fake-clock.ts';

const NAME = 'postern-control-plane.postern-system.svc';

class Names {
  readonly clock = new FakeClock();
  readonly changes: (readonly SocketAddress[])[] = [];
  asked = 0;
  answer: () => Promise<readonly { address: string; family: number }[]> = async () => [];
  readonly resolver: ControlPlaneResolver;

  constructor(origin = `https://${NAME}:15012`) {
    this.resolver = new ControlPlaneResolver({
      origin,
      clock: this.clock,
      onChange: (addresses) => this.changes.push(addresses),
      lookup: (name) => {
        expect(name).toBe(NAME);
        this.asked += 1;
        return this.answer();
      },
    });
  }

  are(...addresses: readonly string[]): void {
    this.answer = async () => addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  }

  fail(): void {
    this.answer = () => Promise.reject(new Error('ENOTFOUND'));
  }

  /** As node:net asks. */
  look(all = true): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.resolver.lookup(NAME, { all }, (error, address, family) =>
        error === null ? resolve(all ? address : { address, family }) : reject(error),
      );
    });
  }
}

it.each([
  ['https://10.0.0.1:15012', { address: '10.0.0.1', port: 15012 }],
  ['https://[fd00::1]', { address: 'fd00::1', port: 443 }],
])('%s needs no name server', async (origin, expected) => {
  const names = new Names(origin);
  expect(await names.resolver.first()).toEqual([expected]);
  expect(names.asked).toBe(0);
});

it('finds all addresses at the start', async () => {
  const names = new Names();
  names.are('10.0.0.1', 'fd00::1');
  expect(await names.resolver.first()).toEqual([
    { address: '10.0.0.1', port: 15012 },
    { address: 'fd00::1', port: 15012 },
  ]);
  expect(names.changes).toEqual([]);
});

it('starts without addresses where the name does not resolve, and tells of them once it does', async () => {
  const names = new Names();
  names.fail();
  expect(await names.resolver.first()).toEqual([]);
  await expect(names.look()).rejects.toThrow('ENOTFOUND');
  names.are('10.0.0.1');
  expect(await names.look()).toEqual([{ address: '10.0.0.1', family: 4 }]);
  expect(names.changes).toEqual([[{ address: '10.0.0.1', port: 15012 }]]);
});

it('asks again for every connection, and tells of others only', async () => {
  const names = new Names();
  names.are('10.0.0.1', '10.0.0.2');
  await names.resolver.first();
  names.are('10.0.0.2', '10.0.0.1');
  await names.look();
  expect(names.changes).toEqual([]);
  names.are('10.0.0.3');
  expect(await names.look(false)).toEqual({ address: '10.0.0.3', family: 4 });
  expect(names.changes).toEqual([[{ address: '10.0.0.3', port: 15012 }]]);
});

it('keeps the last addresses while the name does not resolve, or to nothing', async () => {
  const names = new Names();
  names.are('10.0.0.1');
  await names.resolver.first();
  names.fail();
  expect(await names.look()).toEqual([{ address: '10.0.0.1', family: 4 }]);
  names.are();
  expect(await names.look()).toEqual([{ address: '10.0.0.1', family: 4 }]);
  expect(names.changes).toEqual([]);
});

it('waits 2 s for a name server that does not answer, and asks it nothing more meanwhile', async () => {
  const names = new Names();
  names.answer = () => new Promise(() => undefined);
  const first = names.resolver.first();
  await names.clock.advance(2_000);
  expect(await first).toEqual([]);
  const failed = names.look().catch((error: Error) => error.message);
  await names.clock.advance(2_000);
  expect(await failed).toBe(`the name ${NAME} was not resolved within 2000 ms`);
  expect(names.asked).toBe(1);
  await settle();
});
