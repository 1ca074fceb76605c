import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { MeshNetwork } from '../../demo/network.ts';
import { isolations, networkNamespaceTests } from '../support/privileges.ts';
import { matrix, Pod, TIMEOUT_MS } from './fixtures/pod.ts';

const MARK = 1337;
/** Both backends, and nftables once more without root. */
const setups = matrix.filter(({ isolation, backend }) => isolation === isolations[0] || backend === 'nft');

networkNamespaceTests.each(setups)(
  'validation of rules by $backend ($isolation)',
  { timeout: TIMEOUT_MS },
  ({ isolation, backend }) => {
    let network: MeshNetwork;
    let pod: Pod;
    const flags = ['--backend', backend, '--mark', String(MARK)];
    const links = async (): Promise<string> => (await pod.run(['ip', '-br', 'link'])).stdout;

    beforeAll(async () => {
      network = await MeshNetwork.create({ name: `va${isolation}${backend}`, isolation });
      pod = new Pod(await network.addHost('pod'));
    }, TIMEOUT_MS);
    afterAll(() => network?.destroy());
    afterEach(async () => {
      await pod.intercept('remove');
    });

    test('proves both directions and families with real connections, and leaves no link behind', async () => {
      const before = await links();
      const { status, stdout } = await pod.intercept('apply', ...flags, '--validate');
      for (const probe of ['outbound IPv4', 'outbound IPv6', 'inbound IPv4', 'inbound IPv6']) {
        expect(stdout).toContain(`${probe}: redirected`);
      }
      expect(status).toBe(0);
      expect(await links()).toBe(before);
      expect(await pod.intercept('validate', '--mark', '1337')).toMatchObject({ status: 0 });
    });

    test('probes what the lists leave to be redirected', async () => {
      const lists = [
        '--include-outbound-ports',
        '443',
        '--include-outbound-cidrs',
        '10.96.0.0/16',
        '--include-inbound-ports',
        '8080',
      ];
      const { stdout } = await pod.intercept('apply', ...flags, ...lists, '--validate');
      expect(stdout).toContain('outbound IPv4: redirected: a connection to 10.96.0.1:443');
      expect(stdout).toContain('outbound IPv6: skipped: the lists leave out');
      expect(stdout).toContain('inbound IPv6: redirected: a connection to [fd2a:9c57:1b63::1]:8080');
    });

    test('fails and says what happened instead where another rule comes first; the rules are removed again', async () => {
      await pod.run([
        'nft',
        'add table ip before; add chain ip before c { type nat hook output priority -150; }; add rule ip before c meta l4proto tcp redirect to :9',
      ]);
      try {
        const result = await pod.intercept('apply', ...flags, '--validate');
        expect(result.status).toBe(1);
        expect(result.stderr).toContain(
          'ERR_INTERCEPT_NOT_REDIRECTED: redirection does not work: outbound IPv4: a connection to 192.0.2.1:20001 did not come to port 15001: it failed with ECONNREFUSED',
        );
        expect((await pod.run(['nft', 'list', 'ruleset'])).stdout).not.toMatch(/postern/i);
        const kept = await pod.intercept('apply', ...flags, '--validate', '--keep');
        expect(kept.status).toBe(1);
        expect((await pod.run(['nft', 'list', 'ruleset'])).stdout).toMatch(/postern/i);
      } finally {
        await pod.run(['nft', 'delete table ip before']);
      }
    });

    test('fails where there are no rules', async () => {
      const result = await pod.intercept('validate', '--mark', '1337', '--probe-timeout', '1');
      expect(result.status).toBe(1);
      expect(result.stderr).toContain('inbound IPv4: a connection to 198.18.213.1:20001 did not come to port 15006');
    });

    test('changes nothing where a port is taken', async () => {
      await pod.listen([15001]);
      const result = await pod.intercept('apply', ...flags, '--validate');
      expect(result).toMatchObject({ status: 1, stdout: '' });
      expect(result.stderr).toContain('ERR_INTERCEPT_PORT_IN_USE: port 15001 is in use');
      expect((await pod.run(['nft', 'list', 'ruleset'])).stdout).not.toMatch(/postern/i);
    });
  },
);

describe.runIf(isolations.some((isolation) => isolation === 'root'))('without privilege', () => {
  test(
    'apply and remove say which capability is missing and exit with 77; show works',
    async () => {
      const network = await MeshNetwork.create({ name: 'nopriv', isolation: 'root' });
      try {
        const pod = new Pod(await network.addHost('pod'));
        const without = (...args: string[]) =>
          pod.run([
            'setpriv',
            '--bounding-set=-net_admin',
            '--inh-caps=-net_admin',
            process.execPath,
            `${import.meta.dirname}/fixtures/command.ts`,
            'intercept',
            ...args,
          ]);
        for (const command of ['apply', 'remove']) {
          const { status, stderr } = await without(command);
          expect(stderr).toContain('CAP_NET_ADMIN');
          expect(status).toBe(77);
        }
        expect((await without('show')).status).toBe(0);
      } finally {
        await network.destroy();
      }
    },
    TIMEOUT_MS,
  );
});
