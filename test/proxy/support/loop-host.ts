import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { Loop } from '../../../proxy/reactor/loop.ts';
import type { FromHost, LoopThreadData, ToHost } from './loop-thread.ts';

export type Commands = { readonly [command: string]: (argument: unknown) => unknown };

/** Turns a loop in this thread and lets the other one ask it things, until it says `stop`. */
export function hostLoop(build: (loop: Loop, start: unknown) => Commands): void {
  const { port, descriptors, start } = workerData as LoopThreadData;
  const post = (message: FromHost): void => port.postMessage(message);
  let commands: Commands = {};
  const loop = new Loop(
    descriptors,
    () => {
      for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
        const { id, command, argument } = got.message as ToHost;
        if (command === 'stop') loop.stop();
        else post({ type: 'answer', id, answer: commands[command]?.(argument) });
      }
    },
    (error) => post({ type: 'fault', stack: error instanceof Error ? (error.stack ?? '') : String(error) }),
  );
  commands = build(loop, start);
  post({ type: 'ready', eventFd: loop.eventFd });
  loop.run();
  loop.destroy();
}
