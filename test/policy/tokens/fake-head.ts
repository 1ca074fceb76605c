import type { RequestHead } from '../../../proxy/protocol/http-head.ts';

/** A request's head in memory. Names in lower case. */
export class FakeHead implements RequestHead {
  readonly version = 'http/1.1';
  readonly method: string;
  target: string;
  readonly authority = 'orders.shop:8080';
  readonly upgrade = null;
  readonly contentLength = null;
  readonly receivedBytes = 0;
  #lines: (readonly [name: string, value: string])[];

  constructor(lines: readonly (readonly [name: string, value: string])[] = [], target = '/a', method = 'GET') {
    this.#lines = [...lines];
    this.target = target;
    this.method = method;
  }

  setTarget(target: string): void {
    this.target = target;
  }

  get(name: string): string | null {
    return this.has(name) ? this.all(name).join(', ') : null;
  }

  all(name: string): readonly string[] {
    return this.#lines.filter(([one]) => one === name).map(([, value]) => value);
  }

  has(name: string): boolean {
    return this.#lines.some(([one]) => one === name);
  }

  remove(name: string): void {
    this.removeWhere((one) => one === name);
  }

  removeWhere(predicate: (name: string) => boolean): void {
    this.#lines = this.#lines.filter(([name]) => !predicate(name));
  }

  put(name: string, value: string): void {
    this.set(name, value);
  }

  set(name: string, value: string): void {
    this.remove(name);
    this.#lines.push([name, value]);
  }

  lines(): readonly (readonly [name: string, value: string])[] {
    return this.#lines;
  }
}
