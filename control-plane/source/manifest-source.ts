import type { Manifest, Problem } from '../../policy/types.ts';

/** Something wrong with the source itself, not with a manifest: a directory that cannot be read. */
export interface SourceFault {
  readonly code: string;
  readonly message: string;
}

/**
 * Where manifests come from. Nothing behind this interface knows whether it is a directory or the Kubernetes API.
 *
 * ALWAYS: `manifests` holds accepted objects only, no key twice; what is refused or unreadable leaves the last good one in place.
 */
export interface ManifestSource {
  /** Reads everything once. @throws PosternError where nothing can be read at all. */
  start(onChange: (change: SourceChange) => void): Promise<void>;
  readonly manifests: readonly Manifest[];
  /** Present complaints, by place. */
  readonly problems: readonly Problem[];
  /** Null while all is well. */
  readonly fault: SourceFault | null;
  stop(): Promise<void>;
}

export interface SourceChange {
  /** Whether `manifests` is another than before; else only problems or the fault changed. */
  readonly manifests: boolean;
  /** When the first of the edits was noticed, on the clock of `performance.now()`. */
  readonly noticedAt: number;
}
