export interface Sample {
  readonly name: string;
  readonly labels: { readonly [label: string]: string };
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)/gy;

/** Samples of Prometheus's text format, strictly: a line that is none throws. */
export class Metrics {
  readonly samples: readonly Sample[];

  constructor(text: string) {
    this.samples = text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => {
        const [, name = '', labelText = '', value = ''] = LINE.exec(line) ?? [];
        if (name === '') throw new Error(`no Prometheus sample: ${line}`);
        return { name, labels: parseLabels(labelText, line), value: Number(value) };
      });
  }

  matching(name: string, labels: Sample['labels'] = {}): Sample[] {
    const wanted = Object.entries(labels);
    return this.samples.filter(
      (sample) => sample.name === name && wanted.every(([label, value]) => sample.labels[label] === value),
    );
  }

  /** Of all series that have these labels; 0 where there are none. */
  sum(name: string, labels: Sample['labels'] = {}): number {
    return this.matching(name, labels).reduce((sum, { value }) => sum + value, 0);
  }
}

function parseLabels(text: string, line: string): Sample['labels'] {
  const labels: { [label: string]: string } = {};
  let end = 0;
  LABEL.lastIndex = 0;
  for (let match = LABEL.exec(text); match !== null; match = LABEL.exec(text)) {
    labels[match[1] ?? ''] = (match[2] ?? '').replaceAll(/\\(.)/g, (_, character: string) =>
      character === 'n' ? '\n' : character,
    );
    end = LABEL.lastIndex;
  }
  if (end !== text.length) throw new Error(`labels that are not well-formed: ${line}`);
  return labels;
}
