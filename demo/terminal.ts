import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

/** As much of a WriteStream as is needed. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

/** What the demo prints, and the checks that it holds itself to. Colour only on a terminal and without NO_COLOR. */
export class Terminal {
  readonly #out: Output;
  readonly #coloured: boolean;
  readonly #failed: string[] = [];
  #passed = 0;

  constructor(out: Output) {
    this.#out = out;
    // no-color.org: set and not empty.
    this.#coloured = out.isTTY === true && (process.env.NO_COLOR ?? '') === '';
  }

  get failed(): readonly string[] {
    return this.#failed;
  }

  get passed(): number {
    return this.#passed;
  }

  style(style: Style, text: string): string {
    return this.#coloured ? styleText(style, text, { validateStream: false }) : text;
  }

  line(text = ''): void {
    this.#out.write(`${text}\n`);
  }

  chapter(title: string, remark = ''): void {
    this.line();
    this.line(`${this.style('bold', title)}${remark === '' ? '' : `  ${this.style('dim', remark)}`}`);
  }

  detail(text: string): void {
    this.line(`    ${text}`);
  }

  remark(text: string): void {
    this.detail(this.style('dim', text));
  }

  /** Something expected: shown with a tick where it holds, with a cross and remembered where it does not. */
  check(held: boolean, text: string): void {
    if (held) this.#passed++;
    else this.#failed.push(text);
    const mark = held ? this.style('green', '✓') : this.style('red', '✗');
    this.line(`  ${mark} ${text}`);
  }

  warn(text: string): void {
    this.line(`  ${this.style('yellow', '!')} ${text}`);
  }
}

/** `frontend → orders`, as wide as the widest. */
export const arrow = (from: string, to = ''): string => (to === '' ? from : `${from} → ${to}`).padEnd(22);

/** Rows as lines whose columns stand under each other. */
export function aligned(rows: readonly (readonly string[])[], gap = '  '): readonly string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join(gap)
      .trimEnd(),
  );
}

export function clockTime(at: Date): string {
  return at.toTimeString().slice(0, 8);
}

/** `59 min`, `42 s`: the time from `now` to `then`. */
export function remaining(then: Date, now: Date): string {
  const seconds = Math.round((then.getTime() - now.getTime()) / 1000);
  return Math.abs(seconds) < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
