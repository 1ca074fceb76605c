import { type FSWatcher, watch } from 'node:fs';
import type { Logger } from 'pino';

/** Watches a changing set of directories; a hint to look again, never more: events may be lost or come for nothing. */
export class DirectoryWatch {
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #onEvent: () => void;
  readonly #log: Pick<Logger, 'warn'>;
  #failed = false;

  constructor(onEvent: () => void, log: Pick<Logger, 'warn'>) {
    this.#onEvent = onEvent;
    this.#log = log;
  }

  /** Makes these the directories that are watched. */
  set(directories: readonly string[]): void {
    const wanted = new Set(directories);
    for (const [directory, watcher] of this.#watchers) {
      if (wanted.has(directory)) continue;
      watcher.close();
      this.#watchers.delete(directory);
    }
    for (const directory of wanted) if (!this.#watchers.has(directory)) this.#watch(directory);
  }

  /** Safe to call twice. */
  close(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #watch(directory: string): void {
    try {
      const watcher = watch(directory, { persistent: false }, this.#onEvent);
      watcher.on('error', () => {
        watcher.close();
        this.#watchers.delete(directory);
      });
      this.#watchers.set(directory, watcher);
    } catch (error) {
      // inotify(7) has limits of its own; the slow rescan goes on.
      if (!this.#failed) {
        const message =
          'cannot watch the manifests, edits are noticed late: raise fs.inotify.max_user_watches and max_user_instances';
        this.#log.warn({ err: error, directory }, message);
      }
      this.#failed = true;
    }
  }
}
