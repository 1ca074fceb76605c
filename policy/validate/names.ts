/** RFC 1123 label: namespaces and most names that become a part of a host name. */
const DNS_LABEL = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/;
/** RFC 6335, section 5.1: at most 15 characters, a letter among them, no two hyphens together or at an end. */
const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*$/;

export function isDnsLabel(text: string): boolean {
  return DNS_LABEL.test(text);
}

export function isDnsSubdomain(text: string): boolean {
  return DNS_SUBDOMAIN.test(text) && !text.includes('..');
}

export function isPortName(text: string): boolean {
  return PORT_NAME.test(text);
}

/** RFC 1035 labels, in either case; a final dot names the root. */
const HOST_LABEL = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/i;
const WILDCARD_LABEL = /^\*(?:[-a-z0-9]{0,61}[a-z0-9])?$/i;
const MAX_HOST_NAME = 255;

export function isHostName(text: string): boolean {
  const name = text.endsWith('.') ? text.slice(0, -1) : text;
  return text.length <= MAX_HOST_NAME && name.split('.').every((label) => HOST_LABEL.test(label));
}

/** The same, where `*` may begin the first label; `*` alone is none. */
export function isWildcardHostName(text: string): boolean {
  const [first = '', ...rest] = text.split('.');
  if (!WILDCARD_LABEL.test(first)) return isHostName(text);
  return rest.length > 0 && isHostName(rest.join('.')) && text.length <= MAX_HOST_NAME;
}
