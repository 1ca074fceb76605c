import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findCycles, type Import, importsOf, ROOT, repositoryImports } from './source-tree.ts';

/** From the ground up (proxy/worker/messages.ts, the contract between the two threads, is shared vocabulary): a file may import from its own room and from rooms of a lower rank. Rooms of one rank do not know each other. */
const RANKS: readonly (readonly string[])[] = [
  ['mesh/'],
  ['policy/'],
  ['kubernetes/'],
  ['proxy/worker/messages.ts'],
  ['proxy/native/'],
  ['proxy/reactor/'],
  ['proxy/protocol/'],
  ['proxy/http2/'],
  ['proxy/tunnel/', 'proxy/http/'],
  ['proxy/connection/'],
  ['proxy/inbound/', 'proxy/outbound/'],
  ['proxy/worker/'],
  ['proxy/config'],
  ['proxy/control/', 'proxy/intercept/', 'control-plane/'],
  ['proxy/main.ts'],
  ['cli/'],
  // The stand-in for a cluster serves tests and benchmarks alike.
  ['test/support/kubernetes/'],
  ['demo/', 'benchmarks/', 'scripts/'],
  ['test/'],
];

/** The contract between the two threads: plain types that the control thread may read. */
const THREAD_CONTRACT = 'proxy/worker/messages.ts';

function roomOf(path: string): { readonly room: string; readonly rank: number } | null {
  for (const [rank, rooms] of RANKS.entries()) {
    const room = rooms.find((candidate) => path.startsWith(candidate));
    if (room !== undefined) return { room, rank };
  }
  return null;
}

const imports = repositoryImports();
const within = (room: string): readonly Import[] => imports.filter(({ from }) => from.startsWith(room));
const described = (list: readonly Import[]): readonly string[] => list.map(({ from, to }) => `${from} -> ${to}`);

/** What is pure in `node:net` (syntax and form of addresses) anybody may use; everything else in it is a socket. */
const PURE_NET = /^\{[\s,]*(?:(?:isIP|isIPv4|isIPv6|SocketAddress|BlockList)[\s,]*)+\}$/;
const isPureNet = ({ to, names }: Import): boolean => to === 'node:net' && PURE_NET.test(names);

describe('the rooms of the tree', () => {
  test('every source file stands in a room', () => {
    const homeless = imports.filter(({ from }) => roomOf(from) === null && from.includes('/'));
    expect(described(homeless)).toEqual([]);
  });

  test('every relative import names a file that exists', () => {
    const broken = imports.filter(({ to, relative }) => relative && !existsSync(join(ROOT, to)));
    expect(described(broken)).toEqual([]);
  });

  test('no arrow points up', () => {
    const upward = imports.filter(({ from, to, relative }) => {
      const source = roomOf(from);
      const target = roomOf(to);
      if (!relative || source === null || target === null || source.room === target.room) return false;
      return target.rank >= source.rank;
    });
    expect(described(upward)).toEqual([]);
  });

  test('no files import each other in a circle', () => {
    expect(findCycles(imports).map((cycle) => cycle.join(' -> '))).toEqual([]);
  });
});

describe('what a room may know', () => {
  test('only proxy/native knows koffi', () => {
    const strangers = imports.filter(({ from, to }) => to === 'koffi' && !from.startsWith('proxy/native/'));
    expect(described(strangers)).toEqual([]);
  });

  test('the control thread knows the data plane by the contract between the threads alone', () => {
    const dataPlane = /^proxy\/(?:native|reactor|tunnel|inbound|outbound|worker)\//;
    const strangers = within('proxy/control/').filter(({ to }) => dataPlane.test(to) && to !== THREAD_CONTRACT);
    expect(described(strangers)).toEqual([]);
  });

  test.each(['yaml', 'commander', 'undici', 'node:http'])('the running sidecar does not load %s', (heavy) => {
    const loaded = new Set(['cli/sidecar/entry.ts']);
    for (const file of loaded)
      for (const { from, to, typeOnly } of imports) if (from === file && !typeOnly) loaded.add(to);
    expect(loaded).toContain('proxy/main.ts');
    expect(loaded).not.toContain(heavy);
  });

  test('the control plane knows nothing of the proxy', () => {
    const strangers = within('control-plane/').filter(({ to }) => to.startsWith('proxy/'));
    expect(described(strangers)).toEqual([]);
  });

  test('the policy library imports the shared vocabulary, yaml and, for tokens, node:crypto, and does no I/O', () => {
    const strangers = within('policy/').filter((one) => {
      // Verifying a signature is a computation.
      const verifies = one.to === 'node:crypto' && one.from.startsWith('policy/jwt/');
      return !(one.relative || one.to === 'yaml' || isPureNet(one) || verifies);
    });
    expect(described(strangers)).toEqual([]);
  });

  test('protocols have no sockets, files or clocks', () => {
    const io =
      /^(?:node:)?(?:net|tls|fs|fs\/promises|timers|timers\/promises|http|https|http2|dgram|dns|child_process|worker_threads)$/;
    const strangers = within('proxy/protocol/').filter((one) => io.test(one.to) && !isPureNet(one));
    expect(described(strangers)).toEqual([]);
  });

  test('modules of Node are imported by their node: names', () => {
    const bare = imports.filter(({ to }) =>
      /^(?:assert|buffer|child_process|crypto|dns|events|fs|http|https|net|os|path|stream|tls|url|util|worker_threads)(?:\/|$)/.test(
        to,
      ),
    );
    expect(described(bare)).toEqual([]);
  });
});

describe('the reader of imports', () => {
  test('finds imports of values and types, re-exports, imports for effect and dynamic imports, and none in comments', () => {
    // Spelt so that the reader does not find these in this very file.
    const dynamic = 'import';
    const text = [
      "import { a,\n  b } from './a.ts';",
      "import type { C } from '../c.ts';",
      "export * from './d.ts';",
      "import './e.ts';",
      `const f = await ${dynamic}('./f.ts');`,
      `let g: ${dynamic}('./g.ts').G;`,
      "// import { h } from './h.ts';",
      "/** import { i } from './i.ts'; */",
    ].join('\n');
    expect(importsOf('room/file.ts', text).map(({ to }) => to)).toEqual([
      'room/a.ts',
      'c.ts',
      'room/d.ts',
      'room/e.ts',
      'room/f.ts',
      'room/g.ts',
    ]);
  });

  test('finds a circle of three and not a diamond', () => {
    const edge = (from: string, to: string): Import => ({ from, to, relative: true, names: 'a', typeOnly: false });
    expect(findCycles([edge('a', 'b'), edge('b', 'c'), edge('c', 'a')])).toEqual([['a', 'b', 'c', 'a']]);
    expect(findCycles([edge('a', 'b'), edge('a', 'c'), edge('b', 'd'), edge('c', 'd')])).toEqual([]);
  });

  test('does not count as a circle what is closed by a type', () => {
    const text = "import type { Tunnel } from './tunnel.ts';\nimport { type A, b } from './frames.ts';";
    expect(importsOf('stream.ts', text).map(({ typeOnly }) => typeOnly)).toEqual([true, false]);
  });
});
