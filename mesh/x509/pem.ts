/** Text encoding of DER (RFC 7468, strict form, CRLF tolerated). */

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END \1-----/y;
const BLANK = /[ \t\r\n]*/y;

export function encodePem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/**
 * The DER of every block, in order; all must carry `label`, with nothing but white space around them.
 *
 * @throws Error that says what is wrong, for the caller to name the file or the peer.
 */
export function decodePem(
  text: string,
  label: string,
  limits: { readonly bytes: number; readonly blocks: number },
): Buffer[] {
  if (text.length > limits.bytes) throw new Error(`more than ${limits.bytes} bytes of PEM`);
  const blocks: Buffer[] = [];
  let position = skipBlank(text, 0);
  while (position < text.length) {
    BLOCK.lastIndex = position;
    const match = BLOCK.exec(text);
    if (match === null) throw new Error('not PEM, or something beside the PEM blocks');
    const [, found = '', body = ''] = match;
    if (found !== label) throw new Error(`a PEM block "${label}" was expected, not "${found}"`);
    if (blocks.length === limits.blocks) throw new Error(`more than ${limits.blocks} PEM block(s)`);
    const base64 = body.replaceAll(/[\r\n]/g, '');
    const der = Buffer.from(base64, 'base64');
    // Buffer.from skips what is not base64; only what it writes back the same way was.
    if (der.toString('base64') !== base64) throw new Error('not base64 in a PEM block');
    blocks.push(der);
    position = skipBlank(text, BLOCK.lastIndex);
  }
  if (blocks.length === 0) throw new Error(`no PEM block "${label}"`);
  return blocks;
}

function skipBlank(text: string, from: number): number {
  BLANK.lastIndex = from;
  BLANK.exec(text);
  return BLANK.lastIndex;
}
