import { open } from 'node:fs/promises';
import { EXIT, messageOf, PosternError } from '../../mesh/errors.ts';
import { loadMesh } from '../mesh-file.ts';
import { Evaluator } from './evaluate.ts';
import { linesOf } from './lines.ts';

export interface AuthzEvalOptions {
  readonly manifests: string;
  readonly meshConfig?: string;
  /** A file, or `-` for standard input. */
  readonly requests: string;
  readonly explain?: boolean;
}

/**
 * Answers each line of `requests` by a line, in order. @returns whether all of them were questions.
 * @throws PosternError where manifests, mesh settings or the file of requests cannot be used.
 */
export async function authzEval(options: AuthzEvalOptions, write: (line: string) => Promise<void>): Promise<boolean> {
  const { manifests, mesh } = loadMesh(options.manifests, options.meshConfig);
  const objects = manifests.map(({ object }) => object);
  const evaluator = new Evaluator(objects, mesh, options.explain === true);
  let wellFormed = true;
  for await (const { number, text, problem } of linesOf(await openRequests(options.requests))) {
    const answer = text === null ? { id: null, error: `line ${number}: ${problem}` } : evaluator.answer(text, number);
    if ('error' in answer) wellFormed = false;
    await write(`${JSON.stringify(answer)}\n`);
  }
  return wellFormed;
}

async function openRequests(file: string): Promise<AsyncIterable<Buffer>> {
  if (file === '-') return process.stdin;
  try {
    const handle = await open(file);
    if ((await handle.stat()).isDirectory()) throw new Error('it is a directory');
    return handle.createReadStream();
  } catch (error) {
    throw new PosternError('ERR_INPUT', `cannot read the requests ${file}: ${messageOf(error)}`, {
      cause: error,
      exitCode: EXIT.noInput,
    });
  }
}
