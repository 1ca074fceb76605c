import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import {
  type FileOperations,
  readFileBounded,
  removeTemporaryFiles,
  syncDirectory,
  systemCode,
  writeFileAtomic,
} from '../../mesh/atomic-file.ts';
import { EXIT, type ExitCode, messageOf, PosternError } from '../../mesh/errors.ts';
import {
  type AuthorityContents,
  filesOfGeneration,
  filesOfIntermediate,
  readAuthority,
  type StoredAuthority,
} from './authority-contents.ts';
import { type AuthorityState, fileNames, filesOf, serializeState } from './authority-state.ts';
import { octal } from './data-directory.ts';
import type { Generation } from './generation.ts';

const MAX_FILE_BYTES = 64 * 1024;
const STAGING = /^\.ca\.creating-[0-9a-f]{16}$/;
const OWN_FILE = /^(root-\d+|intermediate-\d+-\d+)\.(pem|key)$/;

/** The CA's files, `<dataDir>/ca`: directory 0700, files 0600. The private keys in it are the one secret that Postern keeps on disk. */
export class AuthorityStore {
  readonly directory: string;
  readonly #dataDir: string;
  readonly #operations: FileOperations;

  constructor(dataDir: string, operations: FileOperations = fs) {
    this.#dataDir = dataDir;
    this.directory = join(dataDir, 'ca');
    this.#operations = operations;
  }

  /** Whether there is a CA, whole or damaged. An empty directory is none. */
  exists(): boolean {
    try {
      return fs.readdirSync(this.directory).length > 0;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return false;
      throw this.#damage(this.directory, `cannot be read (${messageOf(error)})`, 'make it readable for this user');
    }
  }

  /** Makes the directory aside and renames it into place: a first start that is cut short leaves no CA rather than half of one. */
  create(state: AuthorityState, generations: readonly Generation[]): void {
    const staging = join(this.#dataDir, `.ca.creating-${randomBytes(8).toString('hex')}`);
    try {
      this.#operations.mkdirSync(staging, { mode: 0o700 });
      for (const generation of generations) this.#writeFiles(staging, filesOfGeneration(generation));
      writeFileAtomic(join(staging, fileNames.state), serializeState(state), { operations: this.#operations });
      this.#operations.renameSync(staging, this.directory);
      syncDirectory(this.#dataDir, this.#operations);
    } catch (error) {
      const message = `cannot create the certificate authority in ${this.directory}: ${messageOf(error)}`;
      const exitCode = error instanceof PosternError ? error.exitCode : EXIT.cannotCreate;
      const code = error instanceof PosternError ? error.code : 'ERR_CA_CREATE';
      throw new PosternError(code, message, { cause: error, exitCode });
    }
  }

  /** Removes what a first start that was cut short left; such keys have never signed anything that was given out. */
  removeStagingDirectories(): void {
    for (const name of fs.readdirSync(this.#dataDir)) {
      if (STAGING.test(name)) this.#operations.rmSync(join(this.#dataDir, name), { recursive: true, force: true });
    }
  }

  /** Before the state names it. */
  writeGeneration(generation: Generation): void {
    this.#writeFiles(this.directory, filesOfGeneration(generation));
  }

  writeIntermediate(generation: Generation): void {
    this.#writeFiles(this.directory, filesOfIntermediate(generation));
  }

  writeState(state: AuthorityState): void {
    writeFileAtomic(join(this.directory, fileNames.state), serializeState(state), { operations: this.#operations });
  }

  /** Removes keys and certificates that the state does not name: of finished rotations, or of steps that a crash cut short. */
  removeUnused(state: AuthorityState): void {
    removeTemporaryFiles(this.directory, this.#operations);
    const used = filesOf(state);
    for (const name of fs.readdirSync(this.directory)) {
      if (OWN_FILE.test(name) && !used.has(name)) this.#operations.unlinkSync(join(this.directory, name));
    }
  }

  /**
   * Reads everything and checks that it fits together.
   *
   * @throws PosternError ERR_CA_DAMAGED, ERR_CA_PERMISSIONS or ERR_CA_TRUST_DOMAIN; the message names the file, the fault and the way out.
   */
  load(trustDomain: string): StoredAuthority {
    this.#checkPermissions(this.directory, 'directory');
    const locate = (name: string): string => join(this.directory, name);
    const contents: AuthorityContents = {
      parse: (name, parse) => this.#parse(locate(name), parse),
      locate,
      damage: (name, fault) => this.#damage(locate(name), fault),
      otherTrustDomain: 'use another dataDir for a new trust domain',
    };
    return readAuthority(contents, trustDomain);
  }

  #parse<Value>(path: string, parse: (text: string) => Value): Value {
    let text: string;
    try {
      this.#checkPermissions(path, 'file');
      text = readFileBounded(path, MAX_FILE_BYTES).toString('utf8');
    } catch (error) {
      if (!(error instanceof PosternError) || error.code === 'ERR_CA_PERMISSIONS') throw error;
      const missing = error.code === 'ERR_FILE_MISSING';
      throw this.#damage(path, missing ? 'is missing' : `cannot be read (${error.message})`, undefined, error.exitCode);
    }
    try {
      return parse(text);
    } catch (error) {
      // A parser's message may quote what it read, which could be a part of a key: only our own parsers' messages are shown.
      throw this.#damage(path, `is damaged${path.endsWith('.key') ? '' : ` (${messageOf(error)})`}`);
    }
  }

  #checkPermissions(path: string, kind: 'file' | 'directory'): void {
    const status = fs.statSync(path, { throwIfNoEntry: false });
    if (status === undefined || (status.mode & 0o077) === 0) return;
    const message =
      `the CA's ${kind} ${path} is open to other users (mode ${octal(status.mode)}): its keys may have been read. ` +
      `Run chmod ${kind === 'file' ? '600' : '700'} ${path}, and postern ca rotate if others use this machine`;
    throw new PosternError('ERR_CA_PERMISSIONS', message, { exitCode: EXIT.noPermission });
  }

  #damage(path: string, fault: string, remedy?: string, exitCode: ExitCode = EXIT.dataError): PosternError {
    const restore = `restore ${this.directory} whole from a backup; or, to give up every identity issued so far, move it away and start again`;
    return new PosternError('ERR_CA_DAMAGED', `${path} ${fault}: ${remedy ?? restore}`, { exitCode });
  }

  #writeFiles(directory: string, files: ReadonlyMap<string, string>): void {
    for (const [name, text] of files) writeFileAtomic(join(directory, name), text, { operations: this.#operations });
  }
}
