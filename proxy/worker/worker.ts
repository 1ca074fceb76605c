import { isMainThread, workerData } from 'node:worker_threads';
import { DataPlaneWorker } from './data-plane-worker.ts';
import type { WorkerStart } from './messages.ts';

/**
 * The entry of a data-plane thread. It returns when the worker has been told to end; meanwhile this thread never comes back to node's own loop.
 * In the main thread it is only loaded, to fill the compile cache.
 */
if (!isMainThread) new DataPlaneWorker(workerData as WorkerStart).run();
