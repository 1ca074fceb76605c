import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { parseInterceptOptions, type RawInterceptOptions } from '../../mesh/intercept/options.ts';
import { readIptablesState } from '../../proxy/intercept/iptables.ts';
import { applyTransactions, removeTransactions } from '../../proxy/intercept/rules.ts';
import { isolations, networkNamespaceTests } from '../support/privileges.ts';

const LISTS: RawInterceptOptions = {
  mark: '1337',
  includeOutboundPorts: '80,8000-8999',
  excludeOutboundPorts: '8080',
  includeOutboundCidrs: '10.0.0.0/8',
  excludeOutboundCidrs: '10.1.0.0/16,fd00::/8',
  includeInboundPorts: '80',
  excludeInboundPorts: '22,9000-9100',
  includeInboundCidrs: '::/0',
  excludeInboundCidrs: '0.0.0.0/0',
  excludeInterfaces: 'eth1,docker0',
};

/** Without indentation, as rules stand in the script. */
const lines = (script: string): string[] => script.split('\n').map((line) => line.trim());
const nft = (raw: RawInterceptOptions): string => applyTransactions(parseInterceptOptions(raw), 'nft')[0]?.stdin ?? '';
const iptables = (raw: RawInterceptOptions, saved = ''): string[] =>
  applyTransactions(parseInterceptOptions(raw), 'iptables', { ipv4: saved, ipv6: '' }).map(({ stdin }) => stdin);

describe('nftables', () => {
  test('the script replaces our table in one transaction', () => {
    expect(nft({})).toBe(`add table inet postern
delete table inet postern
table inet postern {
	chain output {
		type nat hook output priority -100; policy accept;
		meta l4proto != tcp return
		oifname "lo" return
		meta skuid 1337 return
		meta skgid 1337 return
		meta l4proto tcp redirect to :15001
	}

	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		meta l4proto != tcp return
		iifname "lo" return
		tcp dport { 15000, 15008, 15020, 15021 } return
		meta l4proto tcp redirect to :15006
	}
}
`);
  });

  test('lists become rules that return before the redirection', () => {
    const script = lines(nft(LISTS));
    expect(script.slice(script.indexOf('meta mark 1337 return'), script.indexOf('}'))).toEqual([
      'meta mark 1337 return',
      'meta skuid 1337 return',
      'meta skgid 1337 return',
      'oifname { "docker0", "eth1" } return',
      'tcp dport { 8080 } return',
      'tcp dport != { 80, 8000-8999 } return',
      'ip daddr { 10.1.0.0/16 } return',
      'ip daddr != { 10.0.0.0/8 } return',
      'ip6 daddr { fd00::/8 } return',
      // Only IPv4 is included.
      'meta nfproto ipv6 return',
      'meta l4proto tcp redirect to :15001',
    ]);
    expect(script.slice(script.indexOf('tcp dport { 15000, 15008, 15020, 15021 } return'), -3)).toEqual([
      'tcp dport { 15000, 15008, 15020, 15021 } return',
      'tcp dport { 22, 9000-9100 } return',
      'tcp dport != { 80 } return',
      // All of IPv4 is excluded, and not included either.
      'meta nfproto ipv4 return',
      'meta nfproto ipv4 return',
      'meta l4proto tcp redirect to :15006',
    ]);
  });

  test('no exemption of a kind means no rule of that kind', () => {
    expect(nft({ uid: 'none', mark: '5' })).not.toContain('skuid');
    expect(nft({ gid: 'none' })).not.toContain('skgid');
    expect(nft({})).not.toContain('meta mark');
  });

  test('removal names our table and nothing else', () => {
    expect(removeTransactions('nft')).toEqual([
      { command: ['nft', '-f', '-'], stdin: 'add table inet postern\ndelete table inet postern\n' },
    ]);
  });
});

describe('iptables', () => {
  test('IPv4 and IPv6 are one transaction each, which touches our chains alone', () => {
    const transactions = applyTransactions(parseInterceptOptions({}), 'iptables');
    expect(transactions.map(({ command }) => command)).toEqual([
      ['iptables-restore', '--noflush', '--wait', '5'],
      ['ip6tables-restore', '--noflush', '--wait', '5'],
    ]);
    expect(transactions[0]?.stdin).toBe(`*nat
:POSTERN_INBOUND - [0:0]
:POSTERN_INBOUND_CIDRS - [0:0]
:POSTERN_OUTBOUND - [0:0]
:POSTERN_OUTBOUND_CIDRS - [0:0]
-A POSTERN_OUTBOUND -o lo -j RETURN
-A POSTERN_OUTBOUND -m owner --uid-owner 1337 -j RETURN
-A POSTERN_OUTBOUND -m owner --gid-owner 1337 -j RETURN
-A POSTERN_OUTBOUND -p tcp -j POSTERN_OUTBOUND_CIDRS
-A POSTERN_OUTBOUND_CIDRS -p tcp -j REDIRECT --to-ports 15001
-A POSTERN_INBOUND -i lo -j RETURN
-A POSTERN_INBOUND -p tcp --dport 15000 -j RETURN
-A POSTERN_INBOUND -p tcp --dport 15008 -j RETURN
-A POSTERN_INBOUND -p tcp --dport 15020 -j RETURN
-A POSTERN_INBOUND -p tcp --dport 15021 -j RETURN
-A POSTERN_INBOUND -p tcp -j POSTERN_INBOUND_CIDRS
-A POSTERN_INBOUND_CIDRS -p tcp -j REDIRECT --to-ports 15006
-I OUTPUT 1 -p tcp -j POSTERN_OUTBOUND
-I PREROUTING 1 -p tcp -j POSTERN_INBOUND
COMMIT
`);
  });

  test('lists become rules, CIDRs in the transaction of their family', () => {
    const [ipv4 = '', ipv6 = ''] = iptables(LISTS);
    const outbound = (script: string): string[] =>
      lines(script).filter((line) => line.startsWith('-A POSTERN_OUTBOUND') && !line.includes('owner'));
    const common = [
      '-A POSTERN_OUTBOUND -o lo -j RETURN',
      '-A POSTERN_OUTBOUND -m mark --mark 1337 -j RETURN',
      '-A POSTERN_OUTBOUND -o docker0 -j RETURN',
      '-A POSTERN_OUTBOUND -o eth1 -j RETURN',
      '-A POSTERN_OUTBOUND -p tcp --dport 8080 -j RETURN',
    ];
    const included = [
      '-A POSTERN_OUTBOUND -p tcp --dport 80 -j POSTERN_OUTBOUND_CIDRS',
      '-A POSTERN_OUTBOUND -p tcp --dport 8000:8999 -j POSTERN_OUTBOUND_CIDRS',
    ];
    expect(outbound(ipv4)).toEqual([
      ...common,
      '-A POSTERN_OUTBOUND -d 10.1.0.0/16 -j RETURN',
      ...included,
      '-A POSTERN_OUTBOUND_CIDRS -p tcp -d 10.0.0.0/8 -j REDIRECT --to-ports 15001',
    ]);
    expect(outbound(ipv6)).toEqual([...common, '-A POSTERN_OUTBOUND -d fd00::/8 -j RETURN', ...included]);
    expect(ipv4).not.toContain('POSTERN_INBOUND_CIDRS -p');
    expect(ipv6).toContain('-A POSTERN_INBOUND_CIDRS -p tcp -s ::/0 -j REDIRECT --to-ports 15006');
  });

  const SAVED = `# Generated by iptables-save
*filter
:POSTERN_OUTBOUND - [0:0]
-A OUTPUT -j POSTERN_OUTBOUND
COMMIT
*nat
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:POSTERN_OUTBOUND - [0:0]
:POSTERN_OUTBOUND_CIDRS - [0:0]
-A OUTPUT -p tcp -j POSTERN_OUTBOUND
-A OUTPUT -j DOCKER
-A DOCKER -p tcp -m comment --comment "not -j POSTERN_INBOUND" -j ACCEPT
-A POSTERN_OUTBOUND -p tcp -j POSTERN_OUTBOUND_CIDRS
COMMIT
`;

  test('what is ours is found in the nat table, in chains and in jumps from others', () => {
    expect(readIptablesState(SAVED)).toEqual({
      chains: ['POSTERN_OUTBOUND', 'POSTERN_OUTBOUND_CIDRS'],
      jumps: ['-A OUTPUT -p tcp -j POSTERN_OUTBOUND'],
    });
  });

  test('old jumps go in the transaction that brings the new ones', () => {
    const script = lines(iptables({}, SAVED)[0] ?? '');
    const deletion = script.indexOf('-D OUTPUT -p tcp -j POSTERN_OUTBOUND');
    expect(deletion).toBeGreaterThan(0);
    expect(deletion).toBeLessThan(script.indexOf('-I OUTPUT 1 -p tcp -j POSTERN_OUTBOUND'));
  });

  test('removal takes what is there, and is nothing where nothing is there', () => {
    expect(removeTransactions('iptables', { ipv4: SAVED, ipv6: '' }).map(({ stdin }) => stdin)).toEqual([
      [
        '*nat',
        ':POSTERN_OUTBOUND - [0:0]',
        ':POSTERN_OUTBOUND_CIDRS - [0:0]',
        '-D OUTPUT -p tcp -j POSTERN_OUTBOUND',
        '-X POSTERN_OUTBOUND',
        '-X POSTERN_OUTBOUND_CIDRS',
        'COMMIT',
        '',
      ].join('\n'),
    ]);
  });

  test('a namespace without IPv6 gets no IPv6 rules', () => {
    const transactions = applyTransactions(parseInterceptOptions({}), 'iptables', { ipv4: '', ipv6: null });
    expect(transactions.map(({ command }) => command[0])).toEqual(['iptables-restore']);
  });
});

networkNamespaceTests('the real tools', () => {
  const enter = isolations.some((isolation) => isolation === 'root')
    ? ['--net']
    : ['--user', '--map-root-user', '--net'];
  const check = (argv: readonly string[], input: string): string => {
    const { status, stderr } = spawnSync('unshare', [...enter, '--', ...argv], { input, encoding: 'utf8' });
    return status === 0 ? 'accepted' : stderr;
  };

  test.each([
    ['no lists', { uid: 'none', gid: 'none', mark: '0xffffffff' }],
    ['all lists', { ...LISTS, uid: 'none', gid: 'none' }],
    [
      'the widest blocks',
      { uid: 'none', gid: 'none', mark: '1', includeOutboundCidrs: '0.0.0.0/0,::/0', excludeInboundCidrs: '::/0' },
    ],
    [
      'long lists',
      {
        uid: 'none',
        gid: 'none',
        mark: '1',
        excludeInboundPorts: Array.from({ length: 1024 }, (_, i) => 2 * i + 1).join(','),
      },
    ],
  ] satisfies [string, RawInterceptOptions][])('accept rules with %s', (_name, raw) => {
    expect(check(['nft', '-c', '-f', '-'], nft(raw))).toBe('accepted');
    const [ipv4 = '', ipv6 = ''] = iptables(raw);
    expect(check(['iptables-restore', '--noflush', '--test'], ipv4)).toBe('accepted');
    expect(check(['ip6tables-restore', '--noflush', '--test'], ipv6)).toBe('accepted');
  });
});
