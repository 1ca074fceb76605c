import { EXIT, PosternError } from '../../mesh/errors.ts';

/**
 * An answer of the API server that is not a success, or none at all. `reason` is that of the API's Status object (`NotFound`, `Conflict`,
 * `Forbidden`, `AlreadyExists`, `Expired`, `Gone`, `TooManyRequests`, …), or ours: `Unreachable` where no answer came, `Malformed` where it made
 * no sense, `Aborted` where the call was given up.
 */
export class KubernetesError extends PosternError {
  readonly reason: string;
  /** HTTP status; 0 where there was no answer. */
  readonly status: number;
  /** Milliseconds that the server asks to wait (Retry-After); null where it does not. */
  readonly retryAfterMs: number | null;

  constructor(
    reason: string,
    status: number,
    message: string,
    options: { readonly cause?: unknown; readonly retryAfterMs?: number | null } = {},
  ) {
    super('ERR_KUBERNETES', message, {
      ...(options.cause === undefined ? {} : { cause: options.cause }),
      exitCode: status === 401 || status === 403 ? EXIT.noPermission : EXIT.unavailable,
    });
    this.name = 'KubernetesError';
    this.reason = reason;
    this.status = status;
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

export function isReason(thrown: unknown, ...reasons: readonly string[]): thrown is KubernetesError {
  return thrown instanceof KubernetesError && reasons.includes(thrown.reason);
}
