import { unlinkSync } from 'node:fs';
import { isMainThread, workerData } from 'node:worker_threads';
import { Epoll } from '../../../../proxy/native/epoll.ts';
import { DataPlaneWorker } from '../../../../proxy/worker/data-plane-worker.ts';
import type { WorkerStart } from '../../../../proxy/worker/messages.ts';

/** The real data plane, but for a bug in its loop: it throws where nothing catches once the file CRASH_FILE exists, and takes the file away. */
const file = process.env.CRASH_FILE ?? '';

/** Only one of several workers takes it. */
function taken(): boolean {
  try {
    unlinkSync(file);
    return true;
  } catch {
    return false;
  }
}

const wait = Epoll.prototype.wait;
Epoll.prototype.wait = function (this: Epoll, timeoutMs: number): number {
  if (taken()) throw new Error('a bug in the loop');
  return wait.call(this, Math.min(timeoutMs, 50));
};

if (!isMainThread) new DataPlaneWorker(workerData as WorkerStart).run();
