/** Just enough DER (X.690) to write certificates, right or wrong, and certificate requests. */

function tagged(tag: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length: number[] = [];
  for (let rest = body.length; rest > 0; rest = Math.floor(rest / 256)) length.unshift(rest % 256);
  return Buffer.concat([Buffer.from([tag, 0x80 + length.length, ...length]), body]);
}

export const sequence = (...parts: readonly Buffer[]): Buffer => tagged(0x30, ...parts);
export const set = (...parts: readonly Buffer[]): Buffer => tagged(0x31, ...parts);
export const octets = (body: Buffer): Buffer => tagged(0x04, body);
export const bits = (body: Buffer, unused = 0): Buffer => tagged(0x03, Buffer.from([unused]), body);
export const boolean = (value: boolean): Buffer => tagged(0x01, Buffer.from([value ? 255 : 0]));
export const utf8 = (text: string): Buffer => tagged(0x0c, Buffer.from(text));
/** `[number]`: constructed where it holds other values, primitive where it replaces the tag of one. */
export const constructed = (number: number, ...parts: readonly Buffer[]): Buffer => tagged(0xa0 + number, ...parts);
export const primitive = (number: number, body: Buffer): Buffer => tagged(0x80 + number, body);

/** A non-negative integer, big-endian. */
export function integer(bytes: Buffer): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const body = bytes.subarray(start);
  return tagged(0x02, (body[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), body]) : body);
}

export function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const body: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const groups = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) groups.unshift(0x80 + (left % 128));
    body.push(...groups);
  }
  return tagged(0x06, Buffer.from(body));
}

/** GeneralizedTime, to the second (RFC 5280, section 4.1.2.5.2); UTCTime before 2050, as the RFC demands. */
export function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replaceAll(/\D/g, '').slice(0, 14);
  return digits < '2050' ? tagged(0x17, Buffer.from(`${digits.slice(2)}Z`)) : tagged(0x18, Buffer.from(`${digits}Z`));
}

export function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
