import { readFileSync } from 'node:fs';

/**
 * Private memory of a process, bytes: RssAnon of proc_pid_status(5), which leaves out the pages of the binary and its libraries, since every sidecar of a machine shares those.
 * The file counts in KiB.
 */
export function parseRssAnon(status: string): number {
  const kibibytes = /^RssAnon:\s*(\d+) kB$/m.exec(status)?.[1];
  if (kibibytes === undefined) throw new Error('no RssAnon in /proc/PID/status (Linux 4.5 or newer is needed)');
  return Number(kibibytes) * 1024;
}

export function privateMemory(pid: number): number {
  return parseRssAnon(readFileSync(`/proc/${pid}/status`, 'utf8'));
}
