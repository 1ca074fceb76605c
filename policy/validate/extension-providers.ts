import { field, isAbsent } from '../json.ts';
import { AUTHORIZERS } from '../mesh-settings.ts';
import { quoted } from '../quoted.ts';
import type { JsonObject, JsonValue } from '../types.ts';
import { type Findings, type Path, unknownField } from './findings.ts';

const MAX_PROVIDERS = 64;

/** Istio's providers for telemetry and rate limits: a mesh configuration may keep them, they mean nothing here. */
const OTHER_KINDS = [
  'zipkin',
  'lightstep',
  'datadog',
  'stackdriver',
  'skywalking',
  'opencensus',
  'opentelemetry',
  'prometheus',
  'envoyFileAccessLog',
  'envoyHttpAls',
  'envoyTcpAls',
  'envoyOtelAls',
  'sds',
];
const COMMON_FIELDS = [
  'service',
  'port',
  'timeout',
  'failOpen',
  'statusOnError',
  'includeRequestBodyInCheck',
  'clearRouteCache',
];
const HTTP_FIELDS = [
  'pathPrefix',
  'includeHeadersInCheck',
  'includeRequestHeadersInCheck',
  'includeAdditionalHeadersInCheck',
  'headersToUpstreamOnAllow',
  'headersToDownstreamOnDeny',
  'headersToDownstreamOnAllow',
];

/** Istio's `extensionProviders`: each has a name and is of exactly one kind. */
export function validateExtensionProviders(value: JsonValue | undefined, path: Path, findings: Findings): void {
  const names = new Set<string>();
  for (const [index, item] of findings.items(value, path, MAX_PROVIDERS).entries()) {
    const at = [...path, index];
    if (isAbsent(item)) findings.error(at, 'an extension provider must not be null');
    const provider = findings.object(item, at);
    if (provider === null) continue;
    const name = findings.requiredString(
      field(provider, 'name'),
      [...at, 'name'],
      'an extension provider needs a name',
    );
    if (name !== null && names.has(name)) findings.error([...at, 'name'], `${quoted(name)} stands for another already`);
    if (name !== null) names.add(name);
    validateKind(provider, at, findings);
  }
}

function validateKind(provider: JsonObject, path: Path, findings: Findings): void {
  const authorizers = Object.keys(AUTHORIZERS);
  const known = ['name', ...authorizers, ...OTHER_KINDS];
  const kinds = Object.keys(provider).filter((key) => key !== 'name' && !isAbsent(field(provider, key)));
  for (const kind of kinds) {
    const at = [...path, kind];
    if (!known.includes(kind)) findings.error(at, unknownField(kind, known));
    else if (authorizers.includes(kind)) validateAuthorizer(provider, kind, at, findings);
    else findings.warn(at, `${kind} is for telemetry that Postern does not have: ignored`);
  }
  if (kinds.length !== 1) {
    findings.error(path, `an extension provider is of exactly one kind, such as ${authorizers.join(' or ')}`);
  }
}

function validateAuthorizer(provider: JsonObject, kind: string, path: Path, findings: Findings): void {
  const fields = AUTHORIZERS[kind] === 'http' ? [...COMMON_FIELDS, ...HTTP_FIELDS] : COMMON_FIELDS;
  const authorizer = findings.object(field(provider, kind), path, fields);
  if (authorizer === null) return;
  findings.requiredString(field(authorizer, 'service'), [...path, 'service'], 'an authorizer needs a service');
  const port = field(authorizer, 'port');
  if (isAbsent(port)) findings.error([...path, 'port'], 'an authorizer needs a port');
  findings.integer(port, [...path, 'port'], 1, 65_535);
  findings.boolean(field(authorizer, 'failOpen'), [...path, 'failOpen']);
}
