import { type Command, Option } from 'commander';
import type { SettingsFlags } from '../inject/settings.ts';

interface InjectFlags extends SettingsFlags {
  readonly filename?: string;
  readonly annotations?: true;
}

/** `postern inject -f deployment.yaml`: what the admission webhook does, to a file or a stream. */
export function register(program: Command): void {
  program
    .command('inject')
    .description('Put the sidecar into the pods of Kubernetes manifests, YAML or JSON, and print them')
    .option('-f, --filename <file>', 'the manifests; - for the standard input')
    .option('--annotations', 'list the annotations that pods may carry, instead')
    .option('-n, --namespace <name>', 'namespace of objects that name none')
    .option(
      '-c, --config <file>',
      "the control plane's settings, of which kubernetes.injection holds but for other options",
    )
    .option('--image <name>', 'image of the sidecar')
    .addOption(
      new Option('--image-pull-policy <policy>', 'when the kubelet pulls it').choices([
        'Always',
        'IfNotPresent',
        'Never',
      ]),
    )
    .option('--trust-domain <domain>', 'of the mesh (default: cluster.local)')
    .option(
      '--control-plane <origin>',
      'where sidecars find the control plane (default: https://postern-control-plane.postern-system.svc:15012)',
    )
    .addOption(
      new Option('--native-sidecar <boolean>', 'false: for Kubernetes older than 1.29').choices(['true', 'false']),
    )
    .option('--log-level <level>', 'of the sidecars (default: info)')
    .option('--understand-istio-labels', "take Istio's labels and annotations of the same meaning as well")
    .action((flags: InjectFlags) => run(flags, program.version() ?? ''));
}

async function run(flags: InjectFlags, version: string): Promise<void> {
  if (flags.annotations === true) {
    const { annotationLines } = await import('../inject/annotation-list.ts');
    process.stdout.write(`${annotationLines().join('\n')}\n`);
    return;
  }
  const { EXIT, PosternError } = await import('../../mesh/errors.ts');
  if (flags.filename === undefined) {
    throw new PosternError('ERR_USAGE', 'nothing to inject: name a file of manifests, -f deployment.yaml or -f -', {
      exitCode: EXIT.usage,
    });
  }
  const { INPUT_LIMITS, injectText } = await import('../inject/inject-text.ts');
  const { readInput } = await import('../inject/read-input.ts');
  const { injectionSettings } = await import('../inject/settings.ts');
  const settings = await injectionSettings(flags);
  const text = await readInput(flags.filename, INPUT_LIMITS.bytes);
  const file = flags.filename === '-' ? 'stdin' : flags.filename;
  const result = injectText(text, file, { settings, namespace: flags.namespace ?? null, version });
  for (const note of result.notes) process.stderr.write(`${note}\n`);
  if (result.injected === 0)
    process.stderr.write('postern: nothing was injected: there is no pod that gets a sidecar\n');
  process.stdout.write(result.text);
}
