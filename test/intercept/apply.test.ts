import { describe, expect, test } from 'vitest';
import { parseInterceptOptions } from '../../mesh/intercept/options.ts';
import { applyInterception, removeInterception, showInterception } from '../../proxy/intercept/apply.ts';
import type { Machine, ToolResult } from '../../proxy/intercept/machine.ts';
import { hasNetAdmin, isMapped } from '../../proxy/intercept/privileges.ts';

const OPTIONS = parseInterceptOptions({});
const IDENTITY_MAP = '         0          0 4294967295\n';
const ALL_TOOLS = ['nft', 'iptables-restore', 'ip6tables-restore', 'iptables-save', 'ip6tables-save'];

interface Setting {
  readonly tools?: readonly string[];
  readonly files?: { readonly [path: string]: string | null };
  /** By program; default: success in silence. */
  readonly results?: { readonly [program: string]: Partial<ToolResult> };
}

/** A machine that only remembers what it was told to run. */
function machine(setting: Setting = {}): Machine & { readonly ran: string[] } {
  const files: Setting['files'] = {
    '/proc/self/status': 'CapEff:\t000001ffffffffff\n',
    '/proc/self/uid_map': IDENTITY_MAP,
    '/proc/self/gid_map': IDENTITY_MAP,
    '/proc/net/if_inet6': '',
    ...setting.files,
  };
  const ran: string[] = [];
  return {
    ran,
    locate: (program) => ((setting.tools ?? ALL_TOOLS).includes(program) ? `/sbin/${program}` : null),
    read: (path) => files[path] ?? null,
    run: async (argv) => {
      ran.push(argv.join(' '));
      return { status: 0, stdout: '', stderr: '', ...setting.results?.[argv[0].replace('/sbin/', '')] };
    },
  };
}

describe('the backend', () => {
  test.each([
    ['auto', ALL_TOOLS, 'nft'],
    ['auto', ['iptables-restore'], 'iptables'],
    ['iptables', ALL_TOOLS, 'iptables'],
  ] as const)('%s with %j is %s', async (choice, tools, backend) => {
    expect((await applyInterception(OPTIONS, choice, machine({ tools }))).backend).toBe(backend);
    expect(showInterception(OPTIONS, choice, machine({ tools })).backend).toBe(backend);
  });

  test('auto falls back to iptables where the kernel does not know nftables', async () => {
    const fake = machine({
      results: { nft: { status: 1, stderr: 'Error: Could not process rule: Operation not supported' } },
    });
    expect((await applyInterception(OPTIONS, 'auto', fake)).backend).toBe('iptables');
  });

  test('without any of the tools the message says what to install', async () => {
    await expect(applyInterception(OPTIONS, 'auto', machine({ tools: [] }))).rejects.toMatchObject({
      code: 'ERR_INTERCEPT_NO_TOOL',
      exitCode: 69,
      message: expect.stringContaining('apt-get install nftables'),
    });
    await expect(removeInterception('iptables', machine({ tools: ['nft'] }))).rejects.toMatchObject({
      message: expect.stringContaining('apt-get install iptables'),
    });
  });

  test('show needs neither tools nor privilege', () => {
    const shown = showInterception(OPTIONS, 'auto', machine({ tools: [], files: { '/proc/self/status': null } }));
    expect(shown.backend).toBe('nft');
  });
});

describe('what a tool refuses is told with what to do', () => {
  test.each([
    ['nft', 'Error: Could not process rule: Operation not permitted', 'ERR_INTERCEPT_PRIVILEGE', 77],
    [
      'nft',
      'Error: Could not process rule: No such file or directory\nadd table inet postern\n^^^^',
      'ERR_INTERCEPT_KERNEL',
      69,
    ],
    ['nft', 'netlink: Error: cache initialization failed: Protocol not supported', 'ERR_INTERCEPT_KERNEL', 69],
    ['nft', 'something unheard of', 'ERR_INTERCEPT_TOOL', 71],
    [
      'iptables',
      "iptables-restore: can't initialize iptables table `nat': Table does not exist",
      'ERR_INTERCEPT_KERNEL',
      69,
    ],
    ['iptables', 'Fatal: you must be root', 'ERR_INTERCEPT_PRIVILEGE', 77],
    ['iptables', 'Another app is currently holding the xtables lock', 'ERR_INTERCEPT_BUSY', 75],
  ] as const)('%s: %s', async (backend, stderr, code, exitCode) => {
    const failure = { status: 1, stderr };
    const fake = machine({ results: { nft: failure, 'iptables-restore': failure } });
    await expect(applyInterception(OPTIONS, backend, fake)).rejects.toMatchObject({ code, exitCode });
  });
});

test('both families are tried before one is written', async () => {
  const fake = machine({ results: { 'ip6tables-restore': { status: 2, stderr: 'refused' } } });
  await expect(applyInterception(OPTIONS, 'iptables', fake)).rejects.toThrow('ip6tables-restore refused');
  expect(fake.ran.filter((line) => line.includes('restore') && !line.includes('--test'))).toEqual([]);
});

describe('privilege', () => {
  test('no CAP_NET_ADMIN is told before anything is run', async () => {
    const fake = machine({ files: { '/proc/self/status': 'CapEff:\t0000000000000000\n' } });
    await expect(applyInterception(OPTIONS, 'auto', fake)).rejects.toMatchObject({ exitCode: 77 });
    await expect(removeInterception('auto', fake)).rejects.toMatchObject({ exitCode: 77 });
    expect(fake.ran).toEqual([]);
  });

  test('a system without /proc is told to be none that this works on', async () => {
    const fake = machine({ files: { '/proc/self/status': null } });
    await expect(applyInterception(OPTIONS, 'auto', fake)).rejects.toMatchObject({
      code: 'ERR_INTERCEPT_PLATFORM',
      exitCode: 69,
    });
  });

  test.each([
    ['CapEff:\t0000000000001000', true],
    ['CapEff:\t000001ffffffefff', false],
    ['CapPrm:\t000001ffffffffff', false],
  ])('%s', (status, has) => {
    expect(hasNetAdmin(`Name:\tnode\n${status}\nCapBnd:\t0\n`)).toBe(has);
  });
});

describe('a user namespace without the sidecar’s UID', () => {
  const files = { '/proc/self/uid_map': '0 1000 1\n', '/proc/self/gid_map': '0 1000 1\n' };

  test('needs a mark', async () => {
    await expect(applyInterception(OPTIONS, 'auto', machine({ files }))).rejects.toMatchObject({
      code: 'ERR_INTERCEPT_UNMAPPED',
      exitCode: 78,
      message: expect.stringContaining('--mark'),
    });
  });

  test('with a mark leaves the UID and GID out and says so', async () => {
    const applied = await applyInterception({ ...OPTIONS, mark: 7 }, 'nft', machine({ files }));
    expect(applied.options).toMatchObject({ uid: null, gid: null, mark: 7 });
    expect(applied.warnings.join()).toContain('UID 1337 does not exist in this user namespace');
  });

  test.each([
    [0, true],
    [1, false],
    [100_000, true],
    [165_535, true],
    [165_536, false],
  ])('ID %i', (id, mapped) => {
    expect(isMapped('         0       1000          1\n    100000     200000      65536\n', id)).toBe(mapped);
  });
});
