import { PosternError } from '../mesh/errors.ts';
import type { ErrorResponse } from '../mesh/push.ts';

export type ErrorStatus = 400 | 401 | 403 | 404 | 409 | 413 | 429 | 503;

/** A request that is refused. The message goes to the peer: nothing in it that the peer may not know. */
export class ApiError extends PosternError {
  readonly status: ErrorStatus;
  /** Stable, sent as `code` of the `ErrorResponse`. */
  readonly reason: string;

  constructor(status: ErrorStatus, reason: string, message: string, options: { cause?: unknown } = {}) {
    super(`ERR_API_${reason.toUpperCase().replaceAll('-', '_')}`, message, options);
    this.name = 'ApiError';
    this.status = status;
    this.reason = reason;
  }

  toResponse(): ErrorResponse {
    return { error: this.message, code: this.reason };
  }
}
