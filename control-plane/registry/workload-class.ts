type Labels = { readonly [key: string]: string };

/** What is known of a workload now that decides what its sidecar is told. Immutable. */
export interface Standing {
  readonly namespace: string;
  readonly labels: Labels;
  /** See `SelfResource`. */
  readonly ended: boolean;
}

const labelTexts = new WeakMap<Labels, string>();
const classes = new WeakMap<Standing, string>();

/** One text for equal labels, whatever their order. */
export function classOf(labels: Labels): string {
  const known = labelTexts.get(labels);
  if (known !== undefined) return known;
  const text = JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
  labelTexts.set(labels, text);
  return text;
}

/** Sidecars of workloads of one class are told the same. */
export function workloadClass(standing: Standing): string {
  const known = classes.get(standing);
  if (known !== undefined) return known;
  const { namespace, labels, ended } = standing;
  const text = `${namespace} ${ended ? 'ended' : 'running'} ${classOf(labels)}`;
  classes.set(standing, text);
  return text;
}
