import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../../../control-plane/ca/authority.ts';
import { EXIT, PosternError } from '../../../mesh/errors.ts';
import { HOUR, newKeys, openAuthority, START, temporaryDirectory } from './support.ts';

/** A data directory with a CA, and what opening it again throws. */
function damaged(
  damage: (directory: string) => void,
  options: { trustDomain?: string; now?: number } = {},
): PosternError {
  const dataDir = temporaryDirectory();
  openAuthority({ dataDir }).close();
  damage(join(dataDir, 'ca'));
  const { trustDomain = 'cluster.local', now = START } = options;
  try {
    CertificateAuthority.open({ dataDir, trustDomain, clock: () => now }).close();
  } catch (error) {
    if (error instanceof PosternError) return error;
    throw error;
  }
  throw new Error('it opened');
}

const write = (name: string, content: string) => (directory: string) =>
  fs.writeFileSync(join(directory, name), content);
const remove = (name: string) => (directory: string) => fs.rmSync(join(directory, name));
const truncate = (name: string) => (directory: string) => fs.truncateSync(join(directory, name), 100);
const editState = (edit: (state: Record<string, unknown>) => unknown) => (directory: string) => {
  const path = join(directory, 'state.json');
  fs.writeFileSync(path, JSON.stringify(edit(JSON.parse(fs.readFileSync(path, 'utf8')))));
};
const foreign = (name: string) => (directory: string) => {
  const dataDir = temporaryDirectory();
  openAuthority({ dataDir }).close();
  fs.copyFileSync(join(dataDir, 'ca', name), join(directory, name));
};
const foreignKey = newKeys().privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;

describe('a damaged CA refuses to start, naming the file and the way out', () => {
  it.each<[string, (directory: string) => void, string]>([
    ['a missing state', remove('state.json'), 'state.json is missing'],
    ['an empty state', write('state.json', ''), 'state.json is damaged'],
    ['a state that is no JSON', write('state.json', '{'), 'state.json is damaged'],
    ['a state that is a list', write('state.json', '[]'), 'state.json is damaged'],
    ['a state of a later version', editState((state) => ({ ...state, version: 2 })), 'state.json is damaged'],
    ['an unknown rotation', editState((state) => ({ ...state, rotation: 'half' })), 'state.json is damaged'],
    ['no generation', editState((state) => ({ ...state, generations: [] })), 'state.json is damaged'],
    [
      'a generation without file',
      editState((state) => ({ ...state, generations: [{ id: 7, intermediate: 1, leavesExpireBy: 0 }] })),
      'root-7.pem is missing',
    ],
    ['a missing root key', remove('root-1.key'), 'root-1.key is missing'],
    ['half a root key', truncate('root-1.key'), 'root-1.key is damaged'],
    ['a key of something else', write('root-1.key', foreignKey), 'is not the private key of'],
    ['a missing intermediate key', remove('intermediate-1-1.key'), 'intermediate-1-1.key is missing'],
    ['garbage for a key', write('intermediate-1-1.key', 'secret garbage'), 'intermediate-1-1.key is damaged'],
    ['half a root certificate', truncate('root-1.pem'), 'root-1.pem is damaged'],
    ['a missing intermediate', remove('intermediate-1-1.pem'), 'intermediate-1-1.pem is missing'],
    ['an oversized file', write('root-1.pem', 'x'.repeat(70_000)), 'root-1.pem cannot be read'],
    [
      'a root of another CA',
      (directory) => {
        const source = temporaryDirectory();
        openAuthority({ dataDir: source }).close();
        for (const name of ['root-1.pem', 'root-1.key'])
          fs.copyFileSync(join(source, 'ca', name), join(directory, name));
      },
      'intermediate-1-1.pem was not issued by',
    ],
    ['a root certificate of another key', foreign('root-1.pem'), 'root-1.key is not the private key of'],
  ])('%s', (_, damage, fault) => {
    const error = damaged(damage);
    expect(error).toMatchObject({ code: 'ERR_CA_DAMAGED', exitCode: EXIT.dataError });
    expect(error.message).toContain(fault);
    expect(error.message).toMatch(/\/ca\/[a-z0-9.-]+ .*restore .* from a backup/);
    expect(error.message).not.toContain('secret');
  });

  it('a directory where a file should be', () => {
    const error = damaged((directory) => {
      fs.rmSync(join(directory, 'root-1.key'));
      fs.mkdirSync(join(directory, 'root-1.key'), { mode: 0o700 });
    });
    expect(error.code).toBe('ERR_CA_DAMAGED');
  });

  it('leaves the damage as it is, for the operator to look at', () => {
    const dataDir = temporaryDirectory();
    openAuthority({ dataDir }).close();
    fs.rmSync(join(dataDir, 'ca', 'state.json'));
    const before = fs.readdirSync(join(dataDir, 'ca')).sort();
    expect(() => openAuthority({ dataDir })).toThrow();
    expect(fs.readdirSync(join(dataDir, 'ca')).sort()).toEqual(before);
  });
});

describe('a CA refuses to start', () => {
  it.each([
    ['root-1.key', 0o640],
    ['intermediate-1-1.key', 0o604],
    ['state.json', 0o660],
    ['', 0o750],
  ])('when others may read %s', (name, mode) => {
    const error = damaged((directory) => fs.chmodSync(join(directory, name), mode));
    expect(error).toMatchObject({ code: 'ERR_CA_PERMISSIONS', exitCode: EXIT.noPermission });
    expect(error.message).toContain(join('ca', name));
    expect(error.message).toContain('chmod');
  });

  it('when others may write the data directory', () => {
    const dataDir = temporaryDirectory();
    fs.chmodSync(dataDir, 0o777);
    expect(() => openAuthority({ dataDir })).toThrow(expect.objectContaining({ code: 'ERR_DATA_DIR' }));
  });

  it('for another trust domain', () => {
    const error = damaged(() => {}, { trustDomain: 'example.org' });
    expect(error).toMatchObject({ code: 'ERR_CA_TRUST_DOMAIN', exitCode: EXIT.config });
    expect(error.message).toContain('cluster.local');
    expect(error.message).toContain('example.org');
  });

  it('when its certificates are of another trust domain than its state', () => {
    const error = damaged(
      editState((state) => ({ ...state, trustDomain: 'example.org' })),
      { trustDomain: 'example.org' },
    );
    expect(error.code).toBe('ERR_CA_DAMAGED');
    expect(error.message).toContain('root-1.pem is not of trust domain example.org');
  });

  it.each([
    ['after its root has expired', START + 11 * 365 * 24 * HOUR, 'expired'],
    ['before its root begins', START - HOUR, 'set the clock'],
  ])('%s', (_, now, reason) => {
    const error = damaged(() => {}, { now });
    expect(error.code).toBe('ERR_CA_EXPIRED');
    expect(error.message).toContain(reason);
  });

  it.each([
    { ttlSeconds: 10 },
    { minTtlSeconds: 0 },
    { maxTtlSeconds: 60 },
    { maxTtlSeconds: 90 * 86_400 },
    { ttlSeconds: Number.NaN },
  ])('with the lifetimes %j', (defaults) => {
    expect(() => openAuthority({ dataDir: temporaryDirectory(), defaults })).toThrow(
      expect.objectContaining({ code: 'ERR_CA_CONFIG' }),
    );
  });

  it('with a trust domain that is none', () => {
    expect(() => openAuthority({ dataDir: temporaryDirectory(), trustDomain: 'a/b' })).toThrow(
      expect.objectContaining({ code: 'ERR_CA_CONFIG' }),
    );
  });
});

it('an empty directory where the CA should be counts as none', () => {
  const dataDir = temporaryDirectory();
  fs.mkdirSync(join(dataDir, 'ca'));
  expect(openAuthority({ dataDir }).isNew).toBe(true);
});
