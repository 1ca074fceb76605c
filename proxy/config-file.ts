import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { readSettings } from '../mesh/config/reader.ts';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import { type ProxyConfig, readProxy } from './config.ts';

/** Reads and checks the file at `path`. @throws PosternError ERR_CONFIG with every problem as `file:line:column: …`, exit 78. */
export function loadConfig(path: string): ProxyConfig {
  const file = resolve(path);
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (error) {
    throw new PosternError(
      'ERR_CONFIG',
      `cannot read ${file}: ${messageOf(error)}; pass the sidecar's settings with --config`,
      {
        cause: error,
        exitCode: EXIT.config,
      },
    );
  }
  return parseConfig(content, file);
}

export function parseConfig(content: string, file: string): ProxyConfig {
  return readSettings(content, file, (root) => readProxy(root, file));
}
