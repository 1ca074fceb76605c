import { existsSync } from 'node:fs';
import { request } from 'undici';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { formatListenAddress } from '../addresses.ts';
import { DEFAULT_CONFIG, DEFAULTS, loadControlPlaneConfig } from '../config.ts';
import type { ControlPlaneStatus, SidecarStatus } from './status.ts';

const TIMEOUT_MS = 5_000;
const COLUMNS = ['WORKLOAD', 'IDENTITY', 'CERTIFICATE', 'SENT', 'ACKNOWLEDGED', 'CONNECTED', 'REJECTED'];

/** The admin address that the flags name. @throws PosternError ERR_CONFIG, ERR_STATUS */
export function adminUrl({ config, admin }: { readonly config?: string; readonly admin?: string }): URL {
  if (admin !== undefined) {
    const url = URL.parse(admin);
    if (url?.protocol === 'http:') return url;
    throw new PosternError('ERR_STATUS', `--admin ${admin} is not an http:// URL`, { exitCode: EXIT.usage });
  }
  const file = config ?? (existsSync(DEFAULT_CONFIG) ? DEFAULT_CONFIG : null);
  const listen = file === null ? DEFAULTS.adminListen : loadControlPlaneConfig(file).adminListen;
  const address = { '0.0.0.0': '127.0.0.1', '::': '127.0.0.1' }[listen.address] ?? listen.address;
  return new URL(`http://${formatListenAddress({ ...listen, address })}`);
}

/** @throws PosternError ERR_STATUS where nobody answers, or not a control plane. */
export async function fetchStatus(admin: URL): Promise<ControlPlaneStatus> {
  const url = new URL('/status', admin);
  try {
    const { statusCode, body } = await request(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (statusCode !== 200) throw new Error(`it answered ${statusCode}`);
    const status: unknown = await body.json();
    if (!isStatus(status)) throw new Error('what answers there is not a control plane');
    return status;
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? `: ${messageOf(error.cause)}` : '';
    const message = `no status from ${url.href}: ${messageOf(error)}${cause}; is the control plane running, and is this its adminListen?`;
    throw new PosternError('ERR_STATUS', message, { cause: error, exitCode: EXIT.unavailable });
  }
}

function isStatus(value: unknown): value is ControlPlaneStatus {
  return typeof value === 'object' && value !== null && 'sidecars' in value && Array.isArray(value.sidecars);
}

/** A table for people; `now` in Unix milliseconds. */
export function renderStatus(status: ControlPlaneStatus, now: number): string {
  const { trustDomain, sidecars, missingReplicas = [], manifests } = status;
  const lines = [
    `trust domain ${trustDomain}, sidecars connected: ${sidecars.length}, objects in force: ${manifests.objects}`,
  ];
  if (manifests.fault !== null) lines.push(`MANIFESTS: ${manifests.fault}`);
  for (const replica of missingReplicas) lines.push(`REPLICA: ${replica}`);
  for (const problem of manifests.problems) lines.push(`MANIFEST: ${problem}`);
  if (sidecars.length > 0) lines.push('', ...table([COLUMNS, ...sidecars.map((sidecar) => row(sidecar, now))]));
  for (const { workload, rejected } of sidecars) {
    for (const { key, reason } of rejected) lines.push(`REJECTED by ${workload}: ${key}: ${printable(reason)}`);
  }
  return `${lines.join('\n')}\n`;
}

function row(sidecar: SidecarStatus, now: number): string[] {
  const { versionSent, versionAcknowledged } = sidecar;
  const expiresIn = Date.parse(sidecar.certificateExpiresAt) - now;
  return [
    sidecar.workload,
    sidecar.identity,
    expiresIn <= 0 ? 'expired' : `${duration(expiresIn)} left`,
    shortVersion(versionSent),
    versionAcknowledged === versionSent ? 'yes' : shortVersion(versionAcknowledged),
    `${duration(now - Date.parse(sidecar.connectedSince))} ago`,
    sidecar.rejected.length === 0 ? '-' : String(sidecar.rejected.length),
  ];
}

/** Number and the beginning of the digest are what tells versions apart for a person. */
function shortVersion(version: string | null): string {
  if (version === null) return 'none';
  const [, number = '', digest = ''] = version.split('.');
  return `${number}.${digest.slice(0, 6)}`;
}

function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  return `${Math.floor(seconds / 3600)}h${Math.floor((seconds % 3600) / 60)}m`;
}

/** Reasons come from sidecars: nothing in them may steer the terminal. */
function printable(text: string): string {
  return text.replace(/\p{C}/gu, '?');
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = COLUMNS.map((_, column) => Math.max(...rows.map((cells) => (cells[column] ?? '').length)));
  return rows.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
