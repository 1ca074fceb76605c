import { type Decoder, parsed } from '../../mesh/config/decoders.ts';

const FORM = /^([0-9]{1,15}(?:\.[0-9]{1,9})?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$/;

const SCALE: { readonly [suffix: string]: number } = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** The amount (cores, or bytes) that a Kubernetes quantity means, to the precision of a double; null where the text is none. Exponents and signs are not taken. */
export function quantityValue(text: string): number | null {
  const parts = FORM.exec(text);
  if (parts === null) return null;
  const value = Number(parts[1]) * (parts[2] === undefined ? 1 : (SCALE[parts[2]] ?? Number.NaN));
  return Number.isFinite(value) ? value : null;
}

/** More than nothing. */
export const cpuQuantity: Decoder<string> = parsed('a number of cores such as "100m" or "2"', '', positive);

export const memoryQuantity: Decoder<string> = parsed('a size such as "128Mi"', '', (text) =>
  // A trailing m means thousandths of a byte, which is nobody's intention.
  /[num]$/.test(text) ? null : positive(text),
);

function positive(text: string): string | null {
  return (quantityValue(text) ?? 0) > 0 ? text : null;
}
