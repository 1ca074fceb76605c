import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { isTrustDomain } from '../spiffe-id.ts';

/**
 * How one value is read. `read` returns the value, or null for anything that is not exactly `expects` (which completes "must be …").
 * `placeholder` stands in for a value that was wrong, so that reading can go on and report every problem at once; it never leaves the reader.
 */
export interface Decoder<T> {
  readonly expects: string;
  readonly placeholder: T;
  read(value: unknown): T | null;
}

export const text: Decoder<string> = {
  expects: 'a non-empty string',
  placeholder: '',
  read: (value) => (typeof value === 'string' && value !== '' && value.length <= 4096 ? value : null),
};

/** A value that is written as text, where `parse` understands it. */
export function parsed<T>(expects: string, placeholder: T, parse: (text: string) => T | null): Decoder<T> {
  return { expects, placeholder, read: (value) => (typeof value === 'string' ? parse(value) : null) };
}

/** A container image, as far as a slip of the pen would show: the kubelet would only say InvalidImageName, pod by pod. */
export const imageReference: Decoder<string> = parsed('an image such as registry.example/postern:1.0', '', (value) =>
  /^\w[\w.:/@-]{0,511}$/.test(value) ? value : null,
);

/** An absolute path; what is written is relative to `directory`. */
export function path(directory: string): Decoder<string> {
  return parsed('a path', '', (value) =>
    text.read(value) === null || value.includes('\0') ? null : resolve(directory, value),
  );
}

export const trustDomain: Decoder<string> = parsed('a trust domain such as cluster.local', '', (value) =>
  isTrustDomain(value) ? value : null,
);

/** RFC 1123 label or subdomain: what Kubernetes names are made of. */
export const name: Decoder<string> = {
  expects: 'a name of lower-case letters, digits, "-" and ".", such as orders-1',
  placeholder: '',
  read: (value) =>
    typeof value === 'string' && value.length <= 253 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(value) ? value : null,
};

export const flag: Decoder<boolean> = {
  expects: 'true or false',
  placeholder: false,
  read: (value) => (typeof value === 'boolean' ? value : null),
};

export function integer(min: number, max: number): Decoder<number> {
  return {
    expects: `a whole number from ${min} to ${max}`,
    placeholder: min,
    read: (value) =>
      Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max ? Number(value) : null,
  };
}

export function oneOf<const T extends string>(...words: readonly [T, ...T[]]): Decoder<T> {
  return {
    expects: `one of ${words.join(', ')}`,
    placeholder: words[0],
    read: (value) => words.find((word) => word === value) ?? null,
  };
}

export const ip: Decoder<string> = {
  expects: 'an IP address without port',
  placeholder: '',
  read: (value) => (typeof value === 'string' && isIP(value) !== 0 ? value : null),
};

const ADDRESS = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})$/;

export const address: Decoder<{ readonly address: string; readonly port: number }> = {
  expects: 'an IP address and a port from 1 to 65535, such as "127.0.0.1:8080" or "[::1]:8080"',
  placeholder: { address: '', port: 0 },
  read(value) {
    const parts = typeof value === 'string' ? ADDRESS.exec(value) : null;
    if (parts === null) return null;
    const [, six, four, digits = ''] = parts;
    const port = Number(digits);
    if (port < 1 || port > 65_535 || isIP(six ?? four ?? '') !== (six === undefined ? 4 : 6)) return null;
    return { address: (six ?? four ?? '').toLowerCase(), port };
  },
};

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds from `250ms`, `30s`, `5m`, `1h`; bounds in milliseconds. */
export function duration(min: number, max: number): Decoder<number> {
  return {
    expects: `a duration such as 30s, 5m or 1h, from ${formatDuration(min)} to ${formatDuration(max)}`,
    placeholder: min,
    read(value) {
      const parts = typeof value === 'string' ? /^([0-9]{1,9})(ms|s|m|h)$/.exec(value) : null;
      if (parts === null) return null;
      const ms = Number(parts[1]) * (UNITS[parts[2] ?? ''] ?? Number.NaN);
      return ms >= min && ms <= max ? ms : null;
    },
  };
}

function formatDuration(ms: number): string {
  for (const [unit, size] of Object.entries(UNITS).reverse())
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  return `${ms}ms`;
}

/** Bytes from a whole number, or `64KiB`, `1MiB`. */
export function bytes(min: number, max: number): Decoder<number> {
  return {
    expects: `a size such as 256KiB, from ${min} to ${max} bytes`,
    placeholder: min,
    read(value) {
      const parts =
        typeof value === 'number'
          ? [null, String(value), '']
          : typeof value === 'string'
            ? /^([0-9]{1,9})(KiB|MiB)$/.exec(value)
            : null;
      if (parts === null) return null;
      const size = Number(parts[1]) * (parts[2] === 'KiB' ? 1024 : parts[2] === 'MiB' ? 1024 * 1024 : 1);
      return Number.isSafeInteger(size) && size >= min && size <= max ? size : null;
    },
  };
}

export const ratio: Decoder<number> = {
  expects: 'a number from 0 to 1, such as 0.01',
  placeholder: 0,
  read: (value) => (typeof value === 'number' && value >= 0 && value <= 1 ? value : null),
};

/** Base URL of an OTLP/HTTP collector, without a trailing slash. */
export const collectorUrl: Decoder<string> = parsed(
  'the http or https URL of an OTLP collector without credentials, such as "http://127.0.0.1:4318"',
  '',
  (value) => {
    const url = URL.parse(value);
    if (url === null || !['http:', 'https:'].includes(url.protocol) || url.hostname === '') return null;
    if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') return null;
    return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
  },
);
