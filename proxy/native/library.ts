import { createRequire } from 'node:module';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';

// The package's other form, an ES module, imports all of node:fs and node:util (0.5 MB of a worker).
const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');

/**
 * Binds C functions of the running executable: libc, and the OpenSSL and nghttp2 that the node binary carries and exports.
 *
 * Pointers are plain numbers (`uintptr_t`): user-space addresses stay below 2^53, and a number costs no allocation a call, where a BigInt or
 * an external object does. A koffi call costs about 60 ns. Nothing outside `proxy/native` may see a signature or compute an address.
 */
const self = process.platform === 'linux' ? koffi.load(null) : null;

/** Symbols asked for so far that the executable lacks; `checkPlatform` reports them all at once. */
const missing: string[] = [];

/**
 * @param signature a C prototype; pointers as `uintptr_t`
 * @returns the function; where the symbol is absent, one that throws (so that `checkPlatform` can name every absent one before any is called)
 */
export function bind<T extends (...args: never[]) => unknown>(signature: string): T {
  try {
    if (self === null) throw new Error('not Linux');
    return self.func(signature) as unknown as T;
  } catch (error) {
    const symbol = /(\w+)\(/.exec(signature)?.[1] ?? signature;
    missing.push(symbol);
    const absent = (): never => {
      throw new PosternError('ERR_UNSUPPORTED_PLATFORM', `${symbol} is not available: ${messageOf(error)}`, {
        exitCode: EXIT.unavailable,
      });
    };
    return absent as unknown as T;
  }
}

/** @throws PosternError ERR_UNSUPPORTED_PLATFORM naming what this platform or node build lacks. Call once all of `proxy/native` is imported. */
export function checkPlatform(): void {
  const fail = (message: string): never => {
    throw new PosternError('ERR_UNSUPPORTED_PLATFORM', message, { exitCode: EXIT.unavailable });
  };
  if (process.platform !== 'linux') {
    fail(`the sidecar runs on Linux only (epoll, SO_ORIGINAL_DST); this is ${process.platform}`);
  }
  if (process.arch !== 'x64' && process.arch !== 'arm64') {
    fail(`the sidecar knows the system-call layouts of x64 and arm64 only; this is ${process.arch}`);
  }
  if (missing.length > 0) {
    fail(
      `this node binary (${process.version}, OpenSSL ${process.versions.openssl}) does not export ${missing.join(', ')}: ` +
        `it was probably built with --shared-openssl or without exported symbols; use the Node that package.json pins (bin/postern does)`,
    );
  }
  const [major = 0, minor = 0] = process.versions.openssl.split('.').map(Number);
  if (major < 3 || (major === 3 && minor < 5)) {
    fail(`OpenSSL 3.5 or newer is needed (X25519MLKEM768); this node binary has ${process.versions.openssl}`);
  }
}

/** A C callback of this thread; lives until the thread ends. @returns its address for parameters of type `void *`. */
export function callback(prototype: string, run: (...args: number[]) => number): bigint {
  return koffi.address(koffi.register(run, koffi.pointer(koffi.proto(prototype))));
}

/**
 * The memory at `address` as a buffer; valid until it is freed. NEVER for an event or a connection: node releases what stands behind a view only
 * on its own event loop, to which a worker does not come back (200 bytes each, for ever). `memory.ts` copies through views that stay.
 */
export function viewAt(address: number, length: number): Buffer {
  return Buffer.from(koffi.view(BigInt(address), length));
}

/** errno(3) of this thread's last failed call through `bind`. */
export function errno(): number {
  return koffi.errno();
}
