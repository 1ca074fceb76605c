import fs from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FIXED } from '../../../control-plane/config.ts';
import { DirectorySource } from '../../../control-plane/source/directory.ts';
import { LastGoodFile } from '../../../control-plane/source/last-good.ts';
import type { SourceChange } from '../../../control-plane/source/manifest-source.ts';
import { eventually } from '../../support/eventually.ts';
import { temporaryDirectory } from '../support.ts';

const POLICY = (...names: string[]) =>
  names
    .map(
      (name) =>
        `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: {}\n`,
    )
    .join('---\n');
const log = { warn: () => {}, error: () => {} };
/** Longer than a slow machine takes from one step of a test to the next. */
const NEVER_MS = 600_000;
const timings = { rescanMs: 100, settleMs: 10, removalSettleMs: 300, returnSettleMs: 1_500 };

let directory: string;
let source: DirectorySource;
let changes: SourceChange[];
const path = (name: string) => join(directory, 'm', name);
const write = (name: string, text: string) => fs.writeFileSync(path(name), text);
const names = () => source.manifests.map(({ name }) => name).join(' ');
const messages = () => source.problems.map(({ message }) => message).join('\n');
const start = async (slower: Partial<typeof timings> = {}) => {
  source = new DirectorySource({
    directory: join(directory, 'm'),
    log,
    timings: { ...timings, ...slower },
    lastGood: new LastGoodFile(directory, log),
  });
  changes = [];
  await source.start((change) => changes.push(change));
};
const becomes = (wanted: string) =>
  eventually(() => names() === wanted, {
    what: `the objects ${JSON.stringify(wanted)} instead of ${JSON.stringify(names())}`,
  });
const staysFor = async (ms: number, wanted: string) => {
  const end = Date.now() + ms;
  while (Date.now() < end) {
    expect(names()).toBe(wanted);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

beforeEach(() => {
  directory = temporaryDirectory();
  fs.mkdirSync(join(directory, 'm'));
});
afterEach(async () => {
  await source.stop();
  fs.rmSync(directory, { recursive: true, force: true });
});

it('reads yaml, yml and json below the directory, and no editor’s leftovers', async () => {
  fs.mkdirSync(path('sub'));
  write('a.yaml', POLICY('a'));
  write('b.yml', POLICY('b'));
  write('sub/c.yaml', POLICY('c'));
  write(
    'd.json',
    JSON.stringify({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'd', namespace: 'shop' },
      spec: {},
    }),
  );
  for (const name of ['.hidden.yaml', 'x.yaml~', '.y.yaml.swp', '#z.yaml#', 'notes.md', 'e.yaml.bak'])
    write(name, POLICY('ignored'));
  await start();
  expect(names()).toBe('a b d c');
  expect(messages()).toBe('');
});

describe('an edit', () => {
  beforeEach(async () => {
    write('a.yaml', POLICY('one', 'two'));
    await start();
  });

  it('in place is noticed', async () => {
    write('a.yaml', POLICY('one', 'two', 'three'));
    await becomes('one two three');
  });

  it('by renaming another file over it never shows an empty moment', async () => {
    write('.a.tmp', POLICY('one'));
    fs.renameSync(path('.a.tmp'), path('a.yaml'));
    await becomes('one');
    expect(changes.filter(({ manifests }) => manifests)).toHaveLength(1);
  });

  it('by removing and writing anew never shows an empty moment', async () => {
    await source.stop();
    await start({ removalSettleMs: NEVER_MS });
    fs.rmSync(path('a.yaml'));
    await new Promise((resolve) => setTimeout(resolve, 15));
    write('a.yaml', POLICY('one', 'two', 'three'));
    await becomes('one two three');
    expect(changes.filter(({ manifests }) => manifests)).toHaveLength(1);
  });

  it('that is invalid changes nothing and says where', async () => {
    write('a.yaml', `${POLICY('one')}---\nkind: [`);
    await eventually(() => messages() !== '', { what: 'the complaint' });
    expect(names()).toBe('one two');
    expect(source.problems[0]?.location).toMatchObject({ file: path('a.yaml') });
    expect(source.problems[0]?.location.line).toBeGreaterThan(4);
    write('a.yaml', POLICY('one'));
    await becomes('one');
    expect(messages()).toBe('');
  });

  it('whose second half arrives late does not drop objects meanwhile', async () => {
    await source.stop();
    await start({ removalSettleMs: NEVER_MS });
    const text = POLICY('one', 'two', 'three');
    const end = text.indexOf('---');
    const file = fs.openSync(path('a.yaml'), 'w');
    fs.writeSync(file, text.slice(0, end));
    await staysFor(30, 'one two');
    fs.writeSync(file, text.slice(end));
    fs.closeSync(file);
    await becomes('one two three');
  });

  it('that repeats another file’s object is refused until that one gives it up', async () => {
    write('b.yaml', POLICY('two', 'four'));
    await eventually(() => messages().includes('a.yaml'), { what: 'the complaint' });
    expect(names()).toBe('one two');
    write('a.yaml', POLICY('one'));
    await becomes('one two four');
    expect(messages()).toBe('');
  });

  it('that makes it too large or not UTF-8 changes nothing', async () => {
    write('a.yaml', '#'.repeat(FIXED.source.maxFileBytes + 1));
    await eventually(() => messages().includes('larger'), { what: 'the complaint' });
    fs.writeFileSync(path('a.yaml'), Buffer.of(0xff, 0xfe));
    await eventually(() => messages().includes('utf-8'), { what: 'the complaint' });
    expect(names()).toBe('one two');
  });

  it('that puts a link or a FIFO in its place changes nothing', async () => {
    fs.rmSync(path('a.yaml'));
    fs.symlinkSync('/etc/passwd', path('a.yaml'));
    await eventually(() => messages().includes('symbolic'), { what: 'the complaint' });
    await staysFor(150, 'one two');
  });

  it('that removes the file removes its objects', async () => {
    write('b.yaml', POLICY('b'));
    await becomes('one two b');
    fs.rmSync(path('a.yaml'));
    await becomes('b');
  });
});

describe('a directory', () => {
  it('that disappears keeps everything, says so, and recovers', async () => {
    write('a.yaml', POLICY('a'));
    await start({ returnSettleMs: NEVER_MS });
    fs.renameSync(join(directory, 'm'), join(directory, 'away'));
    await eventually(() => source.fault, { what: 'the fault' });
    expect(source.fault?.message).toContain(join(directory, 'm'));
    expect(names()).toBe('a');
    fs.mkdirSync(join(directory, 'm'));
    await eventually(() => source.fault === null, { what: 'the recovery' });
    await staysFor(100, 'a');
    write('a.yaml', POLICY('a', 'b'));
    await becomes('a b');
  });

  it('that is not there at the start is an error that names it', async () => {
    fs.rmdirSync(join(directory, 'm'));
    await expect(start()).rejects.toMatchObject({
      code: 'ERR_MANIFESTS',
      message: expect.stringContaining(join(directory, 'm')),
    });
  });

  it('made later below it is watched too', async () => {
    await start();
    fs.mkdirSync(path('sub'));
    write('sub/a.yaml', POLICY('a'));
    await becomes('a');
    write('sub/a.yaml', POLICY('a', 'b'));
    await becomes('a b');
  });
});

it('a file that is bad at the next start has the last good version of the run before', async () => {
  write('a.yaml', POLICY('a'));
  write('b.yaml', POLICY('b'));
  await start();
  await source.stop();
  write('a.yaml', 'kind: [');
  fs.rmSync(path('b.yaml'));
  await start();
  expect(names()).toBe('a');
  expect(messages()).not.toBe('');
  write('a.yaml', POLICY('c'));
  await becomes('c');
});
