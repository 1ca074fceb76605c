import { EXIT, PosternError } from '../../../../mesh/errors.ts';
import { loadConfig } from '../../../../proxy/config-file.ts';
import { runProxy } from '../../../../proxy/main.ts';

/** The sidecar as a process of its own, with a data plane that is none, or the module of this folder that WORKER names: `run-sidecar.ts proxy.yaml`. */
const worker = process.env.WORKER ?? 'fake-worker.ts';
try {
  process.exit(await runProxy(loadConfig(process.argv[2] ?? ''), { workerUrl: new URL(worker, import.meta.url) }));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof PosternError ? error.exitCode : EXIT.software);
}
