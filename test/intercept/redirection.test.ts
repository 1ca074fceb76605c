import { afterAll, beforeAll, expect, test } from 'vitest';
import { MeshNetwork } from '../../demo/network.ts';
import { isolations, networkNamespaceTests } from '../support/privileges.ts';
import { matrix, Pod, TIMEOUT_MS } from './fixtures/pod.ts';

/* Real rules, real connections: `app` is the pod whose rules are under test, `peer` a pod without any. */

const VIP = '10.96.0.10';
const VIP6 = 'fd10:96::10';
const PORTS = [8080, 9090, 15000, 15001, 15006, 15008, 15020, 15021];
const MARK = 1337;

networkNamespaceTests.each(matrix)(
  'redirection by $backend ($isolation)',
  { timeout: TIMEOUT_MS },
  ({ isolation, backend }) => {
    let network: MeshNetwork;
    let app: Pod;
    let peer: Pod;
    // Without UIDs of its own a user namespace exempts the sidecar by mark; both ways are given everywhere.
    const apply = (...args: string[]): Promise<void> =>
      app.apply('--backend', backend, '--mark', String(MARK), ...args);
    const rules = async (): Promise<string> => {
      const listed = backend === 'nft' ? [['nft', 'list', 'ruleset']] : [['iptables-save'], ['ip6tables-save']];
      const outputs = await Promise.all(listed.map((argv) => app.run(argv)));
      // iptables-save dates its output.
      return outputs.map(({ stdout }) => stdout.replace(/^#.*$/gm, '')).join('');
    };
    const outbound = (address: string, port: number) => ({ at: 'app:15001', original: `${address} ${port}` });
    const inbound = (address: string, port: number) => ({ at: 'app:15006', original: `${address} ${port}` });
    const direct = (host: Pod, port: number) => ({ at: `${host.host.name}:${port}`, original: null });

    beforeAll(async () => {
      network = await MeshNetwork.create({ name: `rd${isolation}${backend}`, isolation });
      [app, peer] = [new Pod(await network.addHost('app')), new Pod(await network.addHost('peer'))];
      await Promise.all([app.listen(PORTS), peer.listen(PORTS)]);
    }, TIMEOUT_MS);
    afterAll(() => network?.destroy());

    test('what the application dials comes to 15001 with its original destination', async () => {
      await apply();
      expect(await app.dial([VIP, 80], [VIP6, 80], [peer.host.ipv4, 8080], [peer.host.ipv6, 15008])).toEqual([
        outbound(VIP, 80),
        outbound(VIP6, 80),
        outbound(peer.host.ipv4, 8080),
        outbound(peer.host.ipv6, 15008),
      ]);
    });

    test('what comes from outside comes to 15006, save for the ports of the sidecar itself', async () => {
      await apply();
      const { ipv4, ipv6 } = app.host;
      expect(await peer.dial([ipv4, 8080], [ipv6, 8080], [ipv4, 15001], [ipv6, 15001])).toEqual([
        inbound(ipv4, 8080),
        inbound(ipv6, 8080),
        inbound(ipv4, 15001),
        inbound(ipv6, 15001),
      ]);
      const own = [15000, 15008, 15020, 15021];
      expect(
        await peer.dial(...own.map((port) => [ipv4, port] as const), ...own.map((port) => [ipv6, port] as const)),
      ).toEqual([...own, ...own].map((port) => direct(app, port)));
    });

    test('what stays in the pod is left alone, from the application and from the sidecar', async () => {
      await apply();
      const { ipv4, ipv6 } = app.host;
      const places = ['127.0.0.1', '::1', ipv4, ipv6];
      const answers = await app.dial(
        ...places.map((address) => [address, 8080] as const),
        ...places.map((address) => [address, 8080, MARK] as const),
      );
      expect(answers).toEqual(answers.map(() => direct(app, 8080)));
    });

    test('connections that carry the mark are exempt', async () => {
      await apply();
      expect(await app.dial([peer.host.ipv4, 8080, MARK], [peer.host.ipv6, 8080, MARK], [VIP, 80, MARK + 1])).toEqual([
        direct(peer, 8080),
        direct(peer, 8080),
        outbound(VIP, 80),
      ]);
    });

    // The kernel's part is the same with and without root; what the lists make of the rules needs to be seen once.
    if (isolation !== isolations[0]) return;

    test('exclude lists are honoured in both directions and families', async () => {
      await apply(
        ...['--exclude-outbound-ports', '8080', '--exclude-outbound-cidrs', `${peer.host.ipv4},${peer.host.ipv6}/128`],
        ...['--exclude-inbound-ports', '9000-9100', '--exclude-inbound-cidrs', `${peer.host.ipv6}`],
      );
      const [{ ipv4, ipv6 }, other] = [app.host, peer.host];
      expect(await app.dial([other.ipv4, 9090], [other.ipv6, 9090], [VIP, 9090], [VIP6, 9090])).toEqual([
        direct(peer, 9090),
        direct(peer, 9090),
        outbound(VIP, 9090),
        outbound(VIP6, 9090),
      ]);
      expect(await peer.dial([ipv4, 8080], [ipv4, 9090], [ipv6, 8080])).toEqual([
        inbound(ipv4, 8080),
        direct(app, 9090),
        direct(app, 8080),
      ]);
    });

    test('include lists narrow in both directions and families, and exclude lists prevail', async () => {
      await apply(
        ...['--include-outbound-ports', '80,8000-9999', '--include-outbound-cidrs', `10.96.0.0/16,${peer.host.ipv6}`],
        ...[
          '--exclude-outbound-ports',
          '9090',
          '--include-inbound-ports',
          '8080',
          '--include-inbound-cidrs',
          '10.77.0.0/24',
        ],
      );
      const [{ ipv4, ipv6 }, other] = [app.host, peer.host];
      expect(
        await app.dial([VIP, 80], [other.ipv4, 8080], [other.ipv6, 8080], [other.ipv6, 9090], [other.ipv6, 15020]),
      ).toEqual([
        outbound(VIP, 80),
        direct(peer, 8080),
        outbound(other.ipv6, 8080),
        direct(peer, 9090),
        direct(peer, 15020),
      ]);
      expect(await peer.dial([ipv4, 8080], [ipv4, 9090], [ipv6, 8080])).toEqual([
        inbound(ipv4, 8080),
        direct(app, 9090),
        direct(app, 8080),
      ]);
    });

    test('an excluded interface is left alone in both directions', async () => {
      await apply('--exclude-interfaces', 'eth0,docker0');
      expect(await app.dial([peer.host.ipv4, 8080])).toEqual([direct(peer, 8080)]);
      expect(await peer.dial([app.host.ipv6, 8080])).toEqual([direct(app, 8080)]);
    });

    test('applying twice is applying once, and other options replace the rules', async () => {
      await apply('--exclude-inbound-ports', '22');
      const once = await rules();
      await apply('--exclude-inbound-ports', '22');
      expect(await rules()).toBe(once);
      await apply('--exclude-inbound-ports', '23');
      const other = await rules();
      expect(other).not.toBe(once);
      expect(other.length).toBe(once.length);
    });

    test('rules of others survive apply and remove, which takes exactly ours, twice', async () => {
      await app.intercept('remove');
      const foreign = 'add table inet other; add chain inet other c; add rule inet other c tcp dport 1 accept';
      await app.run(['nft', foreign]);
      await app.run(['iptables', '-t', 'nat', '-A', 'OUTPUT', '-p', 'tcp', '--dport', '1', '-j', 'ACCEPT']);
      const before = await app.run(['nft', 'list', 'ruleset']);
      await apply();
      await apply();
      const removed = await app.intercept('remove');
      expect(removed.stdout).toBe(`rules removed (${backend})\n`);
      const after = await app.run(['nft', 'list', 'ruleset']);
      expect(after.stdout).toContain('table inet other');
      expect(after.stdout).toContain('tcp dport 1');
      expect(after.stdout).not.toMatch(/postern/i);
      // The empty built-in chains that iptables makes for itself stay.
      if (backend === 'nft') expect(after.stdout).toBe(before.stdout);
      const again = await app.intercept('remove');
      expect(again).toMatchObject({ status: 0, stdout: 'there were no rules to remove\n' });
      expect(await app.dial([peer.host.ipv4, 8080])).toEqual([direct(peer, 8080)]);
    });

    test('applying by one backend removes what the other had made', async () => {
      await app.apply('--mark', '7', '--backend', backend === 'nft' ? 'iptables' : 'nft');
      await apply();
      expect((await app.run(['nft', 'list', 'ruleset'])).stdout.match(/postern \{|POSTERN_OUTBOUND \{/g)).toHaveLength(
        backend === 'nft' ? 1 : 2,
      );
      expect(await app.dial([VIP, 80])).toEqual([outbound(VIP, 80)]);
    });

    // There is no user but root in a user namespace.
    if (isolation !== 'root') return;

    test("connections of the sidecar's user or group are exempt", async () => {
      await apply();
      const { ipv4 } = peer.host;
      expect(await app.dialAs(1337, 1, ipv4, 8080)).toEqual(direct(peer, 8080));
      expect(await app.dialAs(1, 1337, ipv4, 8080)).toEqual(direct(peer, 8080));
      expect(await app.dialAs(1, 1, ipv4, 8080)).toEqual(outbound(ipv4, 8080));
    });
  },
);
