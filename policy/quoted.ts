/** Characters of a value that a message repeats: it helps to find the place, and the value may be a megabyte. */
const SHOWN = 80;

/** A text from a manifest as a message shows it: in quotes, control characters escaped, not too long. */
export function quoted(text: string): string {
  return text.length > SHOWN ? `${JSON.stringify(text.slice(0, SHOWN))}…` : JSON.stringify(text);
}
