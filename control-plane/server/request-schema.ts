import { LABEL_KEY, LABEL_VALUE, MAX_LABELS } from '../../mesh/labels.ts';
import type { AckRequest, CertificateRequest, StreamRequest, WorkloadRegistration } from '../../mesh/push.ts';
import type { RejectedResource, ResourceKey } from '../../mesh/resources.ts';
import { canonicalAddress } from '../addresses.ts';
import { ApiError } from '../api-error.ts';

/** Bodies of requests, read strictly: unknown keys, wrong types and anything out of bounds are refused. */

type Fields = { readonly [key: string]: unknown };

const MAX = { addresses: 16, ports: 64, rejected: 1_000, text: 512, version: 256 } as const;
// Kubernetes: names are DNS subdomains.
const NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const PORT_NAME = /^[a-z0-9A-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/;
const RESOURCE_KEY = /^[A-Za-z]{1,64}\/[A-Za-z0-9./_-]{1,512}$/;

export function readCertificateRequest(body: unknown): CertificateRequest {
  const { csr, spiffeId, ttlSeconds } = fields(body, '', ['csr', 'spiffeId', 'ttlSeconds']);
  if (typeof csr !== 'string') throw bad('csr', 'must be a PKCS #10 request in PEM');
  if (spiffeId !== undefined && typeof spiffeId !== 'string') throw bad('spiffeId', 'must be a string');
  if (ttlSeconds !== undefined && !isCount(ttlSeconds, 366 * 86_400))
    throw bad('ttlSeconds', 'must be a number of seconds');
  return {
    csr,
    ...(spiffeId === undefined ? {} : { spiffeId }),
    ...(ttlSeconds === undefined ? {} : { ttlSeconds }),
  };
}

export function readStreamRequest(body: unknown): StreamRequest {
  const { workload, proxyVersion, resume } = fields(body, '', ['workload', 'proxyVersion', 'resume']);
  return {
    workload: readRegistration(workload),
    proxyVersion: text(proxyVersion, 'proxyVersion', MAX.text),
    resume:
      resume === null || resume === undefined
        ? null
        : { version: text(fields(resume, 'resume', ['version']).version, 'resume.version', MAX.version) },
  };
}

/** Normalized: addresses canonical, labels and ports sorted, so that equal registrations have equal text. */
export function readRegistration(value: unknown): WorkloadRegistration {
  const known = ['name', 'namespace', 'serviceAccount', 'labels', 'addresses', 'tunnel', 'ports'];
  const { name, namespace, serviceAccount, labels, addresses, tunnel, ports } = fields(value, 'workload', known);
  return {
    name: matching(name, 'workload.name', NAME),
    namespace: matching(namespace, 'workload.namespace', NAME),
    serviceAccount: matching(serviceAccount, 'workload.serviceAccount', NAME),
    labels: readLabels(labels),
    addresses: [
      ...new Set(
        list(addresses, 'workload.addresses', MAX.addresses).map((item) => address(item, 'workload.addresses')),
      ),
    ],
    tunnel: tunnel === null || tunnel === undefined ? null : readTunnel(tunnel),
    ports: readPorts(ports),
  };
}

export function readAckRequest(body: unknown): AckRequest {
  const { workload, version, rejected } = fields(body, '', ['workload', 'version', 'rejected']);
  return {
    workload: matching(workload, 'workload', NAME),
    version: text(version, 'version', MAX.version),
    rejected: list(rejected, 'rejected', MAX.rejected).map(readRejected),
  };
}

function readRejected(value: unknown): RejectedResource {
  const { key, reason } = fields(value, 'rejected', ['key', 'reason']);
  if (typeof reason !== 'string') throw bad('rejected.reason', 'must be a string');
  // Matched against what was sent before it counts for anything.
  return { key: matching(key, 'rejected.key', RESOURCE_KEY) as ResourceKey, reason: reason.slice(0, MAX.text) };
}

function readLabels(value: unknown): { readonly [key: string]: string } {
  const entries = Object.entries(fields(value, 'workload.labels', null)).sort(([a], [b]) => (a < b ? -1 : 1));
  if (entries.length > MAX_LABELS) throw bad('workload.labels', `must be at most ${MAX_LABELS}`);
  return Object.fromEntries(
    entries.map(([key, label]) => {
      if (!LABEL_KEY.test(key)) throw bad('workload.labels', 'has a key that is not one of a Kubernetes label');
      return [key, matching(label, 'workload.labels', LABEL_VALUE)];
    }),
  );
}

function readPorts(value: unknown): { readonly [name: string]: number } {
  const entries = Object.entries(fields(value, 'workload.ports', null)).sort(([a], [b]) => (a < b ? -1 : 1));
  if (entries.length > MAX.ports) throw bad('workload.ports', `must be at most ${MAX.ports}`);
  return Object.fromEntries(
    entries.map(([name, number]) => {
      if (!PORT_NAME.test(name)) throw bad('workload.ports', 'has a name that is not one of a port');
      return [name, port(number, 'workload.ports')];
    }),
  );
}

function readTunnel(value: unknown): WorkloadRegistration['tunnel'] {
  const tunnel = fields(value, 'workload.tunnel', ['address', 'port']);
  return {
    address: address(tunnel.address, 'workload.tunnel.address'),
    port: port(tunnel.port, 'workload.tunnel.port'),
  };
}

/** `known` null: any keys. */
function fields(value: unknown, path: string, known: readonly string[] | null): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw bad(path || 'the body', 'must be an object');
  const extra = known === null ? undefined : Object.keys(value).find((key) => !known.includes(key));
  if (extra !== undefined) throw bad(path || 'the body', `has the unknown key ${JSON.stringify(extra.slice(0, 64))}`);
  return value as Fields;
}

function list(value: unknown, path: string, max: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > max) throw bad(path, `must be a list of at most ${max}`);
  return value;
}

function text(value: unknown, path: string, max: number): string {
  if (typeof value !== 'string' || value.length > max) throw bad(path, `must be a string of at most ${max} characters`);
  return value;
}

function matching(value: unknown, path: string, form: RegExp): string {
  if (typeof value !== 'string' || !form.test(value)) throw bad(path, `must match ${form.source}`);
  return value;
}

function address(value: unknown, path: string): string {
  const canonical = typeof value === 'string' ? canonicalAddress(value) : null;
  if (canonical === null) throw bad(path, 'must be an IP address');
  return canonical;
}

function port(value: unknown, path: string): number {
  if (!isCount(value, 65535)) throw bad(path, 'must be a port between 1 and 65535');
  return value;
}

function isCount(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= max;
}

function bad(path: string, message: string): ApiError {
  return new ApiError(400, 'bad-request', `${path} ${message}`);
}
