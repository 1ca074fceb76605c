const DURATION = /^(?:\d{1,9}(?:\.\d{1,9})?(?:ns|us|µs|ms|s|m|h)){1,6}$/;
const PART = /([\d.]+)(ns|us|µs|ms|s|m|h)/g;
const MILLISECONDS: { readonly [unit: string]: number } = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1e3,
  m: 60e3,
  h: 3600e3,
};

/** A duration as Go writes it (`1m30s`), in milliseconds; null where the text is none. */
export function goMilliseconds(text: string): number | null {
  if (!DURATION.test(text)) return null;
  let sum = 0;
  for (const [, amount = '', unit = ''] of text.matchAll(PART)) sum += Number(amount) * (MILLISECONDS[unit] ?? 0);
  return sum;
}
