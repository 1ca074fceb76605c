import { describe, expect, test } from 'vitest';
import { type JsonObject, pathText, validateObject } from '../../policy/index.ts';
import { object } from './objects.ts';

function found(subject: JsonObject, severity: 'error' | 'warning' = 'error'): string {
  const findings = validateObject(subject).filter((one) => one.severity === severity);
  return findings.map(({ path, message }) => `${pathText(path)}: ${message}`).join('\n');
}

const entry = (spec: JsonObject): JsonObject => object('ServiceEntry', 'networking.istio.io/v1', spec);
const http = { number: 80, name: 'http', protocol: 'HTTP' };
const tcp = { number: 5432, name: 'db', protocol: 'TCP' };
const good = { hosts: ['db.example.com'], ports: [tcp] };
const fixed = { ...good, resolution: 'STATIC', addresses: ['240.0.0.1'] };

describe('ServiceEntry', () => {
  test.each<JsonObject>([
    good,
    { ...good, ports: [{ number: 80, name: 'x' }] },
    { ...good, ports: [{ ...tcp, protocol: 'tcp', targetPort: 0 }] },
    { ...good, hosts: ['*.example.com'] },
    { ...good, resolution: 'NONE', addresses: ['192.0.2.0/24', '2001:db8::/32', '192.0.2.1'] },
    { ...good, resolution: 'DNS', location: 'MESH_EXTERNAL', addresses: ['192.0.2.1'] },
    { ...good, resolution: 'DNS', hosts: ['*.example.com'], endpoints: [{ address: 'a.example.com' }] },
    { ...good, hosts: ['a.example.com', 'b.example.com'], ports: [http], resolution: 'STATIC' },
    { ...good, hosts: ['a.example.com', 'b.example.com'], resolution: 'NONE' },
    { ...fixed, location: 'MESH_INTERNAL', workloadSelector: { labels: { app: 'db' } } },
    {
      ...fixed,
      endpoints: [{ address: '192.0.2.1', ports: { db: 6000 }, labels: { a: '' }, weight: 3, locality: 'x/y' }],
    },
    ...['*', '.', '~', 'bank'].map((target) => ({ ...good, exportTo: [target] })),
    { ...good, exportTo: ['.', 'bank'] },
  ])('%j is admissible', (spec) => {
    expect(found(entry(spec))).toBe('');
  });

  test.each<[JsonObject, string]>([
    [{ ports: [tcp] }, 'spec.hosts: a ServiceEntry needs at least one host'],
    [{ ...good, hosts: ['*'] }, 'spec.hosts[0]: "*" is not a host name'],
    [{ ...good, hosts: ['a.*.com'] }, 'is not a host name'],
    [{ ...good, hosts: ['a_b.com'] }, 'is not a host name'],
    [{ ...good, host: 'a.com' }, 'did you mean hosts?'],
    [
      { ...good, addresses: ['db.example.com'] },
      'spec.addresses[0]: "db.example.com" is neither an IP address nor a CIDR block',
    ],
    [{ ...good, addresses: ['10.0.0.0/33'] }, 'is neither an IP address nor a CIDR block'],
    [
      { ...good, resolution: 'DNS', addresses: ['10.0.0.0/8'] },
      'a CIDR block needs resolution NONE or STATIC, not DNS',
    ],
    [{ ...good, resolution: 'static' }, 'it must be NONE, STATIC, DNS'],
    [{ ...good, location: 'MESH' }, 'it must be MESH_EXTERNAL, MESH_INTERNAL'],
    [{ ...good, ports: [null] }, 'a port must not be null'],
    [{ ...good, ports: [{ number: 80 }] }, 'a port needs a name'],
    [{ ...good, ports: [{ name: 'x' }] }, 'a port needs a number'],
    [{ ...good, ports: [{ ...tcp, number: 0 }] }, 'from 1 to 65535'],
    [{ ...good, ports: [{ ...tcp, targetPort: 65536 }] }, 'from 1 to 65535'],
    [{ ...good, ports: [{ ...tcp, port: 80 }] }, 'unknown field "port"'],
    [{ ...good, ports: [{ ...tcp, protocol: 'HTPT' }] }, 'protocol "HTPT" is unknown'],
    [{ ...good, ports: [tcp, { ...tcp, number: 81 }] }, 'there are two ports called db'],
    [{ ...good, ports: [tcp, { ...tcp, name: 'other' }] }, 'there are two ports 5432'],
    [{ ...good, endpoints: [{ address: '192.0.2.1' }] }, 'resolution NONE goes where the caller wants'],
    [{ ...fixed, endpoints: [{ address: 'db.example.com' }] }, 'is not an IP address'],
    [{ ...fixed, endpoints: [{ address: 'unix:///run/db' }] }, 'is not an IP address'],
    [{ ...fixed, endpoints: [{}] }, 'spec.endpoints[0].address: an endpoint needs an address'],
    [{ ...fixed, endpoints: [null] }, 'an endpoint must not be null'],
    [{ ...fixed, endpoints: [{ address: '192.0.2.1', ports: { web: 80 } }] }, 'has no port "web"'],
    [{ ...fixed, endpoints: [{ address: '192.0.2.1', port: 80 }] }, 'did you mean ports?'],
    [{ ...good, resolution: 'DNS', endpoints: [{ address: 'no_name' }] }, 'is neither an IP address nor a host name'],
    [{ ...good, resolution: 'DNS', hosts: ['*.example.com'] }, 'hosts must be whole names'],
    [
      { ...good, resolution: 'DNS_ROUND_ROBIN', endpoints: [{ address: 'a.com' }, { address: 'b.com' }] },
      'takes one endpoint at most',
    ],
    [
      { ...fixed, endpoints: [{ address: '192.0.2.1' }], workloadSelector: { labels: { a: 'b' } } },
      'only one of workloadSelector and endpoints',
    ],
    [{ ...fixed, workloadSelector: { matchLabels: {} } }, 'unknown field "matchLabels"'],
    [{ ...fixed, workloadSelector: { labels: { a: 'b*' } } }, '"*" is not allowed'],
    [{ ...fixed, hosts: ['a.com', 'b.com'] }, 'several hosts need ports of HTTP or TLS alone'],
    [{ ...good, exportTo: ['*', 'bank'] }, '"*" must be the only one'],
    [{ ...good, exportTo: ['~', '.'] }, '"~" must be the only one'],
    [{ ...good, exportTo: ['.', 'shop'] }, 'stands in exportTo already'],
    [{ ...good, exportTo: ['Bank'] }, 'is neither a namespace'],
  ])('%j is refused: %s', (spec, expected) => {
    const subject = entry(spec);
    expect(found({ ...subject, metadata: { name: 'e', namespace: 'shop' } })).toContain(expected);
  });

  test.each<[JsonObject, string]>([
    [good, 'host names are not resolved'],
    [{ ...fixed, addresses: [] }, 'without addresses nobody finds it'],
    [{ ...fixed, addresses: ['10.0.0.0/8'] }, '"10.0.0.0/8" is ignored'],
    [{ ...good, workloadSelector: { labels: { a: 'b' } } }, 'it needs STATIC'],
    [{ ...fixed, workloadSelector: { labels: {} } }, 'selects every workload'],
    [{ ...fixed, ports: [{ ...tcp, protocol: 'UDP' }] }, 'this port is ignored'],
    [{ ...fixed, subjectAltNames: ['a'] }, 'identity of their service account'],
  ])('%j is warned of: %s', (spec, expected) => {
    expect([found(entry(spec)), found(entry(spec), 'warning')]).toEqual(['', expect.stringContaining(expected)]);
  });

  test.each(['v1', 'v1beta1', 'v1alpha3'])('is served as networking.istio.io/%s', (version) => {
    expect(found(object('ServiceEntry', `networking.istio.io/${version}`, good))).toBe('');
  });
});

describe('Revocation', () => {
  const revocation = (spec: JsonObject): JsonObject => object('Revocation', 'postern.dev/v1', spec);
  const spiffeId = 'spiffe://cluster.local/ns/shop/sa/orders';

  test.each<JsonObject>([
    { spiffeId },
    { serial: '0a:1B:ff', reason: 'stolen laptop' },
    { serial: 'ABCDEF0123456789ABCDEF0123456789ABCDEF01' },
  ])('%j is admissible', (spec) => {
    expect(found(revocation(spec))).toBe('');
  });

  test.each<[JsonObject, string]>([
    [{}, 'exactly one of spiffeId and serial'],
    [{ spiffeId, serial: 'AB' }, 'exactly one of spiffeId and serial'],
    [{ spiffeId: 'spiffe://cluster.local/workload' }, 'is not an identity of the mesh'],
    [{ serial: 'xyz' }, 'is not the serial number'],
    [{ serial: '00:00' }, 'is not the serial number'],
    [{ serial: 12 }, 'must be a string'],
    [{ serial: 'ABCDEF0123456789ABCDEF0123456789ABCDEF0123' }, 'is not the serial number'],
    [{ spiffeId, reason: 'x'.repeat(1025) }, 'at most 1024 characters'],
    [{ spiffeID: spiffeId }, 'did you mean spiffeId?'],
  ])('%j is refused: %s', (spec, expected) => {
    expect(found(revocation(spec))).toContain(expected);
  });
});
