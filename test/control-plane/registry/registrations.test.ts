import { describe, expect, it, vi } from 'vitest';
import { Registrations, type RegistrationsOptions } from '../../../control-plane/registry/registrations.ts';
import { workloadOf } from './support.ts';

/** A second, as vitest has it, is less than a slow machine may take. */
const PATIENT = { timeout: 60_000 };

const make = (more: Partial<RegistrationsOptions> = {}) => {
  const onChange = vi.fn();
  const registrations = new Registrations({ entries: () => [], remembered: [], onChange, ...more });
  return { registrations, onChange, names: () => registrations.list().map(({ workload }) => workload.name) };
};
const at = (name: string, ...addresses: string[]) => workloadOf(name, { addresses });

describe('a registration', () => {
  it('lingers after its stream broke, then goes', async () => {
    const { registrations, names, onChange } = make({ lingerMs: 20 });
    registrations.release(registrations.register(at('a', '10.0.0.1')));
    expect(names()).toEqual(['a']);
    await vi.waitFor(() => expect(names()).toEqual([]), PATIENT);
    expect(onChange).toHaveBeenCalledTimes(2);
  });

  it('of a pod is nobody’s business: its object tells of it', async () => {
    const { registrations, names, onChange } = make({ lingerMs: 20 });
    const lease = registrations.register({ ...at('a', '10.0.0.1'), isDeclared: true });
    expect([lease.changed, names()]).toEqual([false, ['a']]);
    registrations.release(lease);
    await vi.waitFor(() => expect(names()).toEqual([]), PATIENT);
    expect(onChange).not.toHaveBeenCalled();
  });

  it('of a pod takes its name over from whoever held it, and no address from anybody', () => {
    const { registrations, names } = make();
    const earlier = registrations.register({ ...at('a', '10.0.0.1'), isDeclared: true });
    const later = { ...workloadOf('a', { serviceAccount: 'other', addresses: ['10.0.0.2'] }), isDeclared: true };
    registrations.register(later);
    registrations.register({ ...at('b', '10.0.0.2'), isDeclared: true });
    registrations.register(at('c', '10.0.0.2'));
    registrations.release(earlier);
    expect(names()).toEqual(['a', 'b', 'c']);
    expect(() => registrations.register({ ...at('c', '10.0.0.9'), identity: 'another' })).toThrow(/the name shop\/c/);
  });

  it('that comes back while it lingers changes nothing', () => {
    const { registrations, onChange } = make();
    registrations.release(registrations.register(at('a', '10.0.0.1')));
    expect(registrations.register(at('a', '10.0.0.1')).changed).toBe(false);
    expect(onChange).toHaveBeenCalledTimes(1);
    registrations.stop();
  });

  it('taken over by a newer stream is not given back by the older', () => {
    const { registrations, names } = make({ lingerMs: 0 });
    const old = registrations.register(at('a', '10.0.0.1'));
    registrations.register(at('a', '10.0.0.2'));
    registrations.release(old);
    expect(names()).toEqual(['a']);
  });

  it('is refused an address of a connected workload and names it, but takes one of a workload that is gone', () => {
    const { registrations, names } = make();
    const lease = registrations.register(at('a', '10.0.0.1'));
    expect(() => registrations.register(at('b', '10.0.0.2', '10.0.0.1'))).toThrow(/10\.0\.0\.1 .*shop\/a/);
    expect(names()).toEqual(['a']);
    registrations.release(lease);
    registrations.register(at('b', '10.0.0.1'));
    expect(names()).toEqual(['b']);
    registrations.stop();
  });

  it('frees addresses that it does not name any more', () => {
    const { registrations } = make();
    registrations.register(at('a', '10.0.0.1'));
    registrations.register(at('a', '10.0.0.2'));
    expect(() => registrations.register(at('b', '10.0.0.1'))).not.toThrow();
  });

  it('remembered from before a restart is believed for a while, and yields', async () => {
    const remembered = [at('a', '10.0.0.1'), at('b', '10.0.0.2')];
    const { registrations, names } = make({ remembered, restartGraceMs: 30 });
    expect(names()).toEqual(['a', 'b']);
    expect(registrations.register(at('a', '10.0.0.1')).changed).toBe(false);
    await vi.waitFor(() => expect(names()).toEqual(['a']), PATIENT);
  });

  it('is refused what a WorkloadEntry of another account has', () => {
    const entry = {
      name: 'vm',
      namespace: 'shop',
      address: '10.0.0.1',
      labels: {},
      serviceAccount: 'vm',
      ports: {},
      hasTunnel: false,
      ended: false as const,
      createdAt: 0,
    };
    const manifest = {
      apiVersion: '',
      kind: '',
      namespace: '',
      name: '',
      object: {},
      locate: () => ({ file: '', line: 1, column: 1 }),
    };
    const { registrations } = make({ entries: () => [{ ...entry, manifest }] });
    expect(() => registrations.register(at('a', '10.0.0.1'))).toThrow(/WorkloadEntry shop\/vm/);
    expect(() =>
      registrations.register(workloadOf('a', { serviceAccount: 'vm', addresses: ['10.0.0.1'] })),
    ).not.toThrow();
  });
});
