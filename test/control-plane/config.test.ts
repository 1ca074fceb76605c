import { describe, expect, it } from 'vitest';
import { parseControlPlaneConfig } from '../../control-plane/config.ts';

const parse = (text: string) => parseControlPlaneConfig(text, '/etc/postern/control-plane.yaml');

describe('the configuration of the control plane', () => {
  it('has a default for everything, with paths beside the file', () => {
    expect(parse('')).toMatchObject({
      manifests: '/etc/postern/manifests',
      dataDir: '/etc/postern/data',
      listen: { address: '127.0.0.1', port: 15012 },
      adminListen: { address: '127.0.0.1', port: 15014 },
      trustDomain: 'cluster.local',
      certificates: { ttlSeconds: 3600 },
      mesh: { defaultAction: 'ALLOW', rootNamespace: 'istio-system', pathNormalization: 'BASE' },
    });
  });

  it('is read as it stands in the README', () => {
    const text =
      'manifests: ./m\ndataDir: /var/lib/postern\nlisten: "[::1]:15012"\nadminListen: 127.0.0.1:15014\ntrustDomain: example.org\ncertificates: { ttl: 10s, minTtl: 10s, maxTtl: 1h30m }\n';
    expect(parse(text)).toMatchObject({
      manifests: '/etc/postern/m',
      dataDir: '/var/lib/postern',
      listen: { address: '::1', port: 15012 },
      certificates: { ttlSeconds: 10, minTtlSeconds: 10, maxTtlSeconds: 5400 },
    });
  });

  it('fetches keys every 20 minutes, and from no address that is refused by default', () => {
    expect(parse('').jwks).toEqual({ allowedAddresses: [], refreshSeconds: 1200 });
    expect(parse('jwks: { allowedAddresses: [127.0.0.1, "fd00::/8"], refreshInterval: 5m }\n').jwks).toEqual({
      allowedAddresses: ['127.0.0.1', 'fd00::/8'],
      refreshSeconds: 300,
    });
  });

  it.each([
    ['NONE', 'NONE'],
    ['DEFAULT', 'BASE'],
    ['MERGE_SLASHES', 'MERGE_SLASHES'],
  ])('reads the path normalization %s as %s', (written, expected) => {
    expect(parse(`pathNormalization: { normalization: ${written} }\n`).mesh.pathNormalization).toBe(expected);
  });

  it.each([
    [
      'a path normalization that is none',
      'pathNormalization: { normalization: base }\n',
      ':1:37: pathNormalization.norm',
    ],
    ['an unknown key', 'listen: 127.0.0.1:1\nlistne: x\n', ':2:1: unknown setting "listne": known here are '],
    [
      'an unknown key below',
      'certificates:\n  tll: 1h\n',
      ':2:3: unknown setting "certificates.tll": known here are ttl, minTtl, maxTtl',
    ],
    [
      'a name to listen on',
      'listen: localhost:15012\n',
      ':1:9: listen must be an IP address and port, such as "127.0.0.1:15012" or "[::1]:15012", not "localhost:15012"',
    ],
    ['a port out of range', 'listen: 127.0.0.1:70000\n', ':1:9: listen must be'],
    ['a trust domain that is none', 'trustDomain: "A B"\n', ':1:14: trustDomain must be'],
    ['a lifetime below the least', 'certificates: { ttl: 10s }\n', ':1:22: certificates.ttl must lie between'],
    ['a lifetime that is none', 'certificates: { ttl: soon }\n', ':1:22: certificates.ttl must be a duration'],
    [
      'a block that is none',
      'trustedAddresses:\n  - 10.0.0.0/8\n  - 10.0.0.0/99\n',
      ':3:5: trustedAddresses[1] must be an IP address or CIDR block, not "10.0.0.0/99"',
    ],
    [
      'an address for keys that is a name',
      'jwks: { allowedAddresses: [localhost] }\n',
      ':1:28: jwks.allowedAddresses[0] must be',
    ],
    ['a rhythm for keys that is none', 'jwks: { refreshInterval: 0s }\n', ':1:26: jwks.refreshInterval must be'],
    ['a list that is none', 'serverNames: a.example\n', ':1:14: serverNames must be a list'],
    ['a key twice', 'listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n', ':2:1: '],
    ['no map', '- a\n', ':1:1: the file must be a map'],
    ['a map without anything in it', 'certificates:\n', ':1:14: certificates must be a map, not null'],
    ['no YAML', 'a: [\n', ':2:1: Flow sequence'],
  ])('says where it has %s', (_what, text, message) => {
    expect(() => parse(text)).toThrow(
      expect.objectContaining({
        code: 'ERR_CONFIG',
        exitCode: 78,
        message: expect.stringContaining(`/etc/postern/control-plane.yaml${message}`),
      }),
    );
  });

  it('tells every problem at once, and of a wrong value only that it is wrong', () => {
    const text = 'certificates: { ttl: soon }\nlistne: x\nlogLevel: loud\n';
    const message = (() => {
      try {
        parse(text);
        return '';
      } catch (error) {
        return (error as Error).message;
      }
    })();
    expect(message.split('\n').map((line) => /:\d+:\d+: \S+ \S+/.exec(line)?.[0])).toEqual([
      ':1:22: certificates.ttl must',
      ':2:1: unknown setting',
      ':3:11: logLevel must',
    ]);
  });
});
