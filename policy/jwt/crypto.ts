type Crypto = typeof import('node:crypto');

let loaded: Crypto | null = null;

/** node:crypto, loaded when it is first needed: it costs a data-plane thread 2 MB, which a workload without RequestAuthentication keeps. */
export function crypto(): Crypto {
  loaded ??= process.getBuiltinModule('node:crypto');
  return loaded;
}
