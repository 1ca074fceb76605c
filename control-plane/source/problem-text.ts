import type { Problem } from '../../policy/types.ts';

/** `file:line:column: severity: message`. */
export function problemText({ severity, message, location: { file, line, column } }: Problem): string {
  return `${file}:${line}:${column}: ${severity}: ${message}`;
}
