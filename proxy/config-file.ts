import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { readSettings } from '../mesh/config/reader.ts';
import { EXIT, messageOf, PosternError } from '../mesh/errors.ts';
import { type ProxyConfig, readProxy } from './config.ts';

const ENVIRONMENT = 'env:';

/**
 * Reads and checks the file at `path`; or, where that is `env:NAME`, what the environment variable NAME holds, which is taken out of the
 * environment then. @throws PosternError ERR_CONFIG with every problem as `file:line:column: …` (`env:NAME:line:column: …`), exit 78.
 */
export function loadConfig(path: string): ProxyConfig {
  if (path.startsWith(ENVIRONMENT)) return parseConfig(takeVariable(path.slice(ENVIRONMENT.length)), path);
  const file = resolve(path);
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (error) {
    throw configError(`cannot read ${file}: ${messageOf(error)}; pass the sidecar's settings with --config`, error);
  }
  return parseConfig(content, file);
}

export function parseConfig(content: string, file: string): ProxyConfig {
  return readSettings(content, file, (root) => readProxy(root, file));
}

function takeVariable(name: string): string {
  const content = name === '' ? undefined : process.env[name];
  if (content === undefined) {
    throw configError(
      `${ENVIRONMENT}${name}: there is no such environment variable; it should hold the sidecar's settings, JSON or YAML`,
    );
  }
  delete process.env[name];
  return content;
}

const configError = (message: string, cause?: unknown): PosternError =>
  new PosternError('ERR_CONFIG', message, { cause, exitCode: EXIT.config });
