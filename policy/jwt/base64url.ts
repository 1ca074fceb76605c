/** The bytes of unpadded base64url (RFC 7515, 2), of which each value has exactly one form; null where the text is not that form. */
export function decodeBase64url(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64url');
  // Buffer passes over what it does not know, and takes several forms of the last bits: only the one form encodes back to itself.
  return bytes.toString('base64url') === text ? bytes : null;
}
