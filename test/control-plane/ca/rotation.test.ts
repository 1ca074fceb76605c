import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { CertificateAuthority } from '../../../control-plane/ca/authority.ts';
import { type AwaitAcknowledgement, RootRotation, type RotationOptions } from '../../../control-plane/ca/rotation.ts';
import { EXIT } from '../../../mesh/errors.ts';
import { HOUR, newCsr, ORDERS, openAuthority, TestClock, temporaryDirectory } from './support.ts';

const everybody: AwaitAcknowledgement = () => Promise.resolve({ connected: 3, missing: [] });

/** Answers when it aborts, as the push server does when sidecars stay silent. */
const silent: AwaitAcknowledgement = (_, signal) =>
  new Promise((resolve) => {
    const answer = (): void => resolve({ connected: 3, missing: ['shop/orders-1', 'shop/payments-1'] });
    if (signal.aborted) answer();
    signal.addEventListener('abort', answer);
  });

function rotationOf(
  authority: CertificateAuthority,
  clock: TestClock,
  options: Partial<RotationOptions> = {},
): RootRotation {
  const rotation = new RootRotation({
    authority,
    isNew: authority.isNew,
    clock: clock.read,
    awaitAcknowledgement: everybody,
    ...options,
  });
  onTestFinished(() => rotation.close());
  return rotation;
}

function setUp(options: Partial<RotationOptions> = {}) {
  const dataDir = temporaryDirectory();
  const clock = new TestClock();
  const authority = openAuthority({ dataDir, clock: clock.read });
  return { dataDir, clock, authority, rotation: rotationOf(authority, clock, options) };
}

describe('a rotation of the root', () => {
  it('activates the new root only after every sidecar has acknowledged both', async () => {
    const { authority, rotation } = setUp({
      awaitAcknowledgement: (roots) => {
        asked.push([authority.rotationPhase, roots]);
        return everybody(roots, new AbortController().signal);
      },
    });
    const asked: unknown[] = [];
    const [old] = authority.roots;
    const steps: string[] = [];
    await rotation.rotate(({ step }) => steps.push(step));
    expect(steps).toEqual(['begun', 'waiting', 'acknowledged', 'activated']);
    expect(asked).toEqual([['begun', [old, authority.roots[0]]]]);
    expect(authority.roots[1]).toBe(old);
  });

  it('stays begun and names the sidecars when some do not acknowledge in time, and goes on when asked again', async () => {
    let answer = silent;
    const { authority, rotation } = setUp({
      acknowledgementDeadlineMs: 10,
      awaitAcknowledgement: (roots, signal) => answer(roots, signal),
    });
    const roots = authority.roots;
    await expect(rotation.rotate(() => {})).rejects.toMatchObject({
      code: 'ERR_CA_ROTATION_WAIT',
      exitCode: EXIT.temporary,
      message: expect.stringContaining(
        '2 of 3 sidecars have not confirmed the new root within 0.01 s: shop/orders-1, shop/payments-1',
      ),
    });
    expect(authority.rotationPhase).toBe('begun');
    expect(authority.roots[0]).toBe(roots[0]);
    answer = everybody;
    const steps: string[] = [];
    await rotation.rotate(({ step }) => steps.push(step));
    expect(steps).toEqual(['resumed', 'waiting', 'acknowledged', 'activated']);
  });

  it('is one at a time', async () => {
    const { rotation } = setUp({ awaitAcknowledgement: silent });
    const first = rotation.rotate(() => {});
    await expect(rotation.rotate(() => {})).rejects.toMatchObject({ code: 'ERR_CA_ROTATION' });
    rotation.close();
    await expect(first).rejects.toMatchObject({ code: 'ERR_CA_ROTATION_WAIT' });
  });

  it('is refused while the last one is not finished', async () => {
    const { authority, rotation } = setUp();
    authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    await rotation.rotate(() => {});
    await expect(rotation.rotate(() => {})).rejects.toMatchObject({
      code: 'ERR_CA_ROTATION',
      exitCode: EXIT.temporary,
    });
  });

  it('gives sidecars of an earlier life time to come back before it counts acknowledgements', async () => {
    const { dataDir, clock, authority, rotation } = setUp();
    rotation.close();
    authority.close();
    const again = rotationOf(openAuthority({ dataDir, clock: clock.read }), clock, { settleMs: 20 });
    const steps: string[] = [];
    await again.rotate(({ step }) => steps.push(step));
    expect(steps).toEqual(['begun', 'settling', 'waiting', 'acknowledged', 'activated']);
  });
});

describe('the end of a rotation', () => {
  it('comes by itself when the last certificate of the old root has expired', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const notices: string[] = [];
    const { authority, clock, rotation } = setUp({ onNotice: (text) => notices.push(text) });
    authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    await rotation.rotate(() => {});
    clock.now += HOUR;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(authority.rotationPhase).toBe('activated');
    clock.now += 1_000;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(authority.rotationPhase).toBe('none');
    expect(notices).toEqual([expect.stringContaining('finished')]);
  });

  it('comes after a restart too', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const { dataDir, clock, authority, rotation } = setUp();
    authority.issueWorkload({ csr: newCsr(), ...ORDERS });
    await rotation.rotate(() => {});
    rotation.close();
    authority.close();
    clock.now += HOUR + 1_000;
    const reopened = openAuthority({ dataDir, clock: clock.read });
    rotationOf(reopened, clock);
    await vi.advanceTimersByTimeAsync(1);
    expect(reopened.rotationPhase).toBe('none');
  });

  it('does not come after close', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const { authority, clock, rotation } = setUp();
    await rotation.rotate(() => {});
    rotation.close();
    clock.now += 2 * HOUR;
    await vi.advanceTimersByTimeAsync(HOUR);
    expect(authority.rotationPhase).toBe('activated');
  });
});
