import pino from 'pino';

export interface RecordedLog {
  readonly log: pino.Logger;
  /** Every line that was logged, as text. */
  readonly lines: string[];
}

export function recordedLog(): RecordedLog {
  const lines: string[] = [];
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
  return { log, lines };
}
