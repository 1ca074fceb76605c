import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

const read = (file: string): string =>
  readFileSync(new URL(`../../manifests/telemetry/${file}`, import.meta.url), 'utf8');

/** An expression of a dashboard or an alert, and what it shows of the result's labels. */
export interface Query {
  readonly where: string;
  readonly expression: string;
  readonly shown: readonly string[];
}

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}

export interface Dashboard {
  readonly uid: string;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
}

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly [name: string]: string };
}

export const dashboard = (): Dashboard => JSON.parse(read('grafana-dashboard.json')) as Dashboard;

export const alerts = (): readonly Rule[] =>
  (parse(read('prometheus-alerts.yaml')) as { groups: { rules: Rule[] }[] }).groups.flatMap(({ rules }) => rules);

const all = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, name]) => name ?? '');

/** Grafana's variables stand for text; `label_values(metric, label)` names both. */
function variableQuery(definition: string): { expression: string; shown: string[] } {
  const [, expression = '', label = ''] = /^label_values\((.+), (\w+)\)$/.exec(definition) ?? [];
  return { expression, shown: [label] };
}

export function queries(): readonly Query[] {
  const { panels, templating } = dashboard();
  const variables = templating.list.flatMap(({ name, definition }) =>
    definition === undefined ? [] : [{ where: `variable ${name}`, ...variableQuery(definition) }],
  );
  const targets = panels.flatMap(({ title, targets: list = [] }) =>
    list.map(({ expr, legendFormat }) => ({
      where: `panel ${title}`,
      expression: expr,
      shown: all(legendFormat, /\{\{(\w+)\}\}/g),
    })),
  );
  const rules = alerts().map(({ alert, expr, annotations }) => ({
    where: `alert ${alert}`,
    expression: expr,
    shown: all(Object.values(annotations).join(' '), /\$labels\.(\w+)/g),
  }));
  return [...variables, ...targets, ...rules];
}
