import type { Command } from 'commander';
import type { ClusterFlags } from '../open-cluster.ts';

interface InstallFlags extends ClusterFlags {
  readonly overlay: string;
  readonly component?: readonly string[];
  readonly image?: string;
  readonly set?: readonly string[];
  readonly dryRun?: true;
  readonly force?: true;
  readonly wait?: boolean;
  readonly timeout: string;
}

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

export function register(program: Command): void {
  program
    .command('install')
    .description('Install the control plane into a Kubernetes cluster, or bring an installation up to date')
    .option('--overlay <name>', 'single: one replica; ha: three replicas on different nodes', 'single')
    .option(
      '--component <name>',
      'prometheus-operator, external-ca or istio-labels; may be given several times',
      collect,
    )
    .option('--image <name>', "image of the control plane and of sidecars (default: the manifests')")
    .option(
      '--set <key=value>',
      "a setting of the control plane's, as kubernetes.injection.logLevel=debug; may be given several times",
      collect,
    )
    .option('--dry-run', 'print the manifests; no cluster is asked')
    .option('--force', 'take over what somebody else has changed in the meantime')
    .option('--wait', 'wait until the control plane is ready and its webhooks can be called (default)')
    .option('--no-wait', 'do not wait until the control plane is ready')
    .option('--timeout <time>', 'how long each step is waited for', '5m')
    .option('--context <name>', 'context of the kubeconfig')
    .option('--kubeconfig <file>', 'default: as kubectl finds it')
    .action(run);
}

async function run(flags: InstallFlags): Promise<void> {
  const { renderInstallation } = await import('../install/manifests.ts');
  const objects = renderInstallation({
    overlay: flags.overlay,
    components: flags.component ?? [],
    image: flags.image,
    settings: flags.set ?? [],
  });
  if (flags.dryRun === true) {
    const { stringify } = await import('yaml');
    process.stdout.write(objects.map((object) => stringify(object, { lineWidth: 0 })).join('---\n'));
    return;
  }
  const { readTimeout } = await import('../sidecar/local-request.ts');
  const { openCluster } = await import('../open-cluster.ts');
  const { install } = await import('../../kubernetes/install/install.ts');
  const timeoutMs = readTimeout(flags.timeout);
  const waitMs = flags.wait === false ? null : timeoutMs;
  const api = openCluster(flags);
  try {
    const report = (line: string): void => void process.stderr.write(`${line}\n`);
    await install({ api, objects, force: flags.force === true, waitMs, report });
  } finally {
    await api.close();
  }
  process.stdout.write(
    waitMs !== null ? NEXT : 'Everything is applied; nothing was waited for: postern check says how it is.\n',
  );
}

const NEXT = `The control plane runs. Next:
  kubectl label namespace NAME postern.dev/inject=enabled   pods made there from now on get a sidecar
  kubectl -n NAME rollout restart deployment                those that are there already
  postern check                                             what is not as it should be
`;
