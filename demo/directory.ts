import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';

/** Names the process that uses the directory, and marks it as the demo's: nothing is ever removed from a directory without it. */
const MARKER = '.postern-demo';
/** Made anew by each run: not the user's. */
export const USERS_FILE = 'users.yaml';
/** sun_path holds 108 bytes with its terminator (unix(7)); the longest name below the directory is `run/control-plane-15014.sock`. */
const LONGEST_PATH = 75;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** The folder that the user chose, and where in it everything is. One running demo owns it. */
export class DemoDirectory {
  readonly path: string;
  readonly manifests: string;
  readonly data: string;
  readonly logs: string;
  /** Unix sockets, by which the demo reaches ports in the namespaces. */
  readonly run: string;
  /** Where the user's edited manifests of an earlier run were put; null where there were none. */
  readonly keptManifests: string | null;

  private constructor(path: string, keptManifests: string | null) {
    this.path = path;
    this.manifests = join(path, 'manifests');
    this.data = join(path, 'data');
    this.logs = join(path, 'logs');
    this.run = join(path, 'run');
    this.keptManifests = keptManifests;
  }

  /** @throws PosternError where the directory is another's, in use, or cannot be written. */
  static open(path: string, manifestsSource: string): DemoDirectory {
    if (Buffer.byteLength(path) > LONGEST_PATH) {
      throw new PosternError(
        'ERR_DEMO_DIRECTORY',
        `${path} is too long for Unix sockets in it: choose one of at most ${LONGEST_PATH} bytes with --dir`,
        { exitCode: EXIT.usage },
      );
    }
    try {
      claim(path);
      const kept = keepEdited(path, manifestsSource);
      for (const stale of ['manifests', 'data', 'logs', 'run', 'workloads']) {
        rmSync(join(path, stale), { recursive: true, force: true });
      }
      const directory = new DemoDirectory(path, kept);
      cpSync(manifestsSource, directory.manifests, { recursive: true });
      mkdirSync(directory.data, { mode: 0o700 });
      mkdirSync(directory.logs);
      mkdirSync(directory.run, { mode: 0o700 });
      return directory;
    } catch (error) {
      if (error instanceof PosternError) throw error;
      throw new PosternError(
        'ERR_DEMO_DIRECTORY',
        `cannot prepare ${path}: ${messageOf(error)}. Choose another with --dir`,
        { cause: error, exitCode: EXIT.cannotCreate },
      );
    }
  }

  /** A folder of one workload's own; only `uid` may look inside (it holds the join token). */
  workload(name: string, files: { readonly [file: string]: string }, uid: number | null): string {
    const folder = join(this.path, 'workloads', name);
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text, { mode: 0o600 });
    if (uid !== null)
      for (const path of [folder, ...readdirSync(folder).map((file) => join(folder, file))]) chownSync(path, uid, uid);
    return folder;
  }

  manifest(file: string): string {
    return join(this.manifests, file);
  }

  /** As an editor saves: the file is replaced whole. */
  writeManifest(file: string, text: string): void {
    const temporary = join(this.manifests, `.${file}.new`);
    writeFileSync(temporary, text);
    renameSync(temporary, this.manifest(file));
  }

  /** What stays are manifests, data and logs: for the user to look at. */
  release(): void {
    rmSync(this.run, { recursive: true, force: true });
    writeFileSync(join(this.path, MARKER), '');
  }
}

function claim(path: string): void {
  const marker = join(path, MARKER);
  mkdirSync(path, { recursive: true, mode: 0o755 });
  if (!existsSync(marker)) {
    if (readdirSync(path).length > 0) {
      throw new PosternError(
        'ERR_DEMO_DIRECTORY',
        `${path} is not empty and not of an earlier demo: choose an empty or new one with --dir`,
        { exitCode: EXIT.usage },
      );
    }
  } else {
    const pid = Number.parseInt(readFileSync(marker, 'utf8'), 10);
    if (pid > 0 && pid !== process.pid && isAlive(pid)) {
      throw new PosternError(
        'ERR_DEMO_DIRECTORY',
        `another demo (process ${pid}) uses ${path}: end it first, or choose another directory with --dir`,
        { exitCode: EXIT.temporary },
      );
    }
  }
  writeFileSync(marker, `${process.pid}\n`);
}

/** The story needs the manifests as they were shipped; what the user wrote in an earlier run is put aside, not lost. */
function keepEdited(path: string, source: string): string | null {
  const manifests = join(path, 'manifests');
  if (!existsSync(manifests)) return null;
  const names = (folder: string): readonly string[] =>
    readdirSync(folder).filter((name) => !name.startsWith('.') && name !== USERS_FILE);
  const shipped = names(source);
  const same =
    names(manifests).length === shipped.length &&
    shipped.every((name) => {
      const copy = join(manifests, name);
      return existsSync(copy) && readFileSync(copy).equals(readFileSync(join(source, name)));
    });
  if (same) return null;
  const kept = `${manifests}-${new Date().toISOString().replace(/[:.]/g, '-')}`;
  renameSync(manifests, kept);
  return kept;
}
