import { quoted } from '../quoted.ts';

const ONE_SEGMENT = '{*}';
const ANY_SEGMENTS = '{**}';
/** The characters of a path segment that Istio allows beside an operator; a subset of RFC 3986's pchar. */
const LITERAL = /^[A-Za-z0-9\-._~%!$&'()+,;:@=]+$/;

/** Why a value of `paths` is not admissible; null where it is. Only a value with an operator is a template; in others `*` is Istio's usual wildcard. */
export function pathProblem(value: string): string | null {
  if (value.includes(ONE_SEGMENT) || value.includes(ANY_SEGMENTS)) return templateProblem(value);
  return /[{}]/.test(value) ? '"{" and "}" may stand in {*} and {**} only' : null;
}

function templateProblem(template: string): string | null {
  if (!template.startsWith('/')) return 'a path template starts with "/"';
  let rest = false;
  for (const segment of template.slice(1).split('/')) {
    const isOperator = segment === ONE_SEGMENT || segment === ANY_SEGMENTS;
    if (isOperator && rest) return '{**} must be the last operator of a path template';
    if (segment === ANY_SEGMENTS) rest = true;
    if (isOperator) continue;
    if (segment === '') return 'a path template has no empty segment';
    if (segment.includes(ONE_SEGMENT) || segment.includes(ANY_SEGMENTS))
      return 'an operator must fill its segment of a path template';
    if (!LITERAL.test(segment))
      return `the segment ${quoted(segment)} of a path template has a character that is not allowed`;
  }
  return null;
}
