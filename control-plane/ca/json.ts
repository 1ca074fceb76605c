/** A JSON object's members, unchecked. @throws Error where the value is something else. */
export function objectOf(value: unknown): { readonly [key: string]: unknown } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('an object was expected');
  return value as { readonly [key: string]: unknown };
}
