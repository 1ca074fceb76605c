import { appendFileSync, openSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import type { FromWorker, ToWorker, WorkerStart } from '../../../../proxy/worker/messages.ts';

/**
 * Stands in for the data plane: answers as messages.ts says and does what the names of the resources that it is sent ask for.
 * FAKE_WORKER_DIARY names a file to which it writes all that it is sent, private keys included.
 */
const { config, port, counters } = workerData as WorkerStart;
const slots = new Float64Array(counters);
const diary = process.env.FAKE_WORKER_DIARY;
/** How many connections the application has open. */
const open = Number(process.env.FAKE_WORKER_OPEN ?? 0);
const post = (message: FromWorker): void => port.postMessage(message);

function postSpan(name: string): void {
  const ids = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7', parentSpanId: null };
  const times = { start: '1767225600000000000', end: '1767225600002500000' };
  post({ type: 'spans', spans: [{ ...ids, ...times, name, kind: 'server', attributes: {}, failed: false }] });
}

port.on('message', (message: ToWorker) => {
  if (diary !== undefined) appendFileSync(diary, `${JSON.stringify({ worker: config.index, ...message })}\n`);
  switch (message.type) {
    case 'resources': {
      const names = message.upserts.map(({ name }) => name);
      if (names.includes('test/crash')) throw new Error('the test asked for a crash');
      if (names.includes('test/span')) postSpan('asked for');
      const rejected = message.upserts.filter(({ name }) => name.startsWith('test/reject'));
      slots[0] = (slots[0] ?? 0) + 1;
      post({
        type: 'applied',
        version: message.version,
        rejected: rejected.map(({ kind, name }) => ({ key: `${kind}/${name}`, reason: 'the test asked for it' })),
      });
      return;
    }
    case 'query':
      if (message.what === 'load') post({ type: 'reply', id: message.id, data: { inbound: 0, outbound: open } });
      else post({ type: 'reply', id: message.id, data: [{ what: message.what }] });
      return;
    case 'drain':
      if (config.tracing !== null) postSpan('last');
      post({ type: 'access', lines: '{"access":"the last connection"}\n' });
      if (process.env.FAKE_WORKER_NEVER_DRAINS === undefined) post({ type: 'drained', forced: 0 });
      return;
    default:
      return;
  }
});

if (process.env.FAKE_WORKER_FATAL !== undefined) {
  post({ type: 'fatal', code: 'ERR_ADDRESS_IN_USE', message: 'inbound.listen is in use' });
  port.close();
} else {
  post({ type: 'series', slot: 0, metric: 'postern_accept_paused_total', labels: {} });
  post({ type: 'log', level: 'info', msg: 'a line of the worker', fields: {} });
  post({ type: 'ready', eventFd: openSync('/dev/null', 'w') });
}
