import type { Command } from 'commander';
import type { ClusterFlags } from '../open-cluster.ts';

interface UninstallFlags extends ClusterFlags {
  readonly crds?: true;
  readonly force?: true;
}

export function register(program: Command): void {
  program
    .command('uninstall')
    .description('Remove the control plane from a Kubernetes cluster, with its certificate authority; policies stay')
    .option('--crds', 'remove the kinds as well, and with them every policy of the cluster')
    .option('--force', 'although pods still have sidecars')
    .option('--context <name>', 'context of the kubeconfig')
    .option('--kubeconfig <file>', 'default: as kubectl finds it')
    .action(run);
}

async function run(flags: UninstallFlags): Promise<void> {
  const { everythingInstallable } = await import('../install/manifests.ts');
  const { openCluster } = await import('../open-cluster.ts');
  const { uninstall } = await import('../../kubernetes/install/uninstall.ts');
  const { INJECTION_DEFAULTS } = await import('../../kubernetes/injection/types.ts');
  const { CLUSTER_TRUST_BUNDLE, TRUST_BUNDLE_LABELS } = await import(
    '../../control-plane/kubernetes/leader/trust-bundles.ts'
  );
  const api = openCluster(flags);
  try {
    await uninstall({
      api,
      objects: everythingInstallable(),
      published: {
        labels: TRUST_BUNDLE_LABELS,
        configMap: INJECTION_DEFAULTS.trustBundle.configMap,
        clusterTrustBundle: CLUSTER_TRUST_BUNDLE,
      },
      definitions: flags.crds === true,
      force: flags.force === true,
      report: (line) => void process.stderr.write(`${line}\n`),
    });
  } finally {
    await api.close();
  }
  process.stdout.write('Postern is uninstalled.\n');
}
