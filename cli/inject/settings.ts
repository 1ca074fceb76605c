import { parseControlPlaneConfig } from '../../control-plane/config.ts';
import { INJECTION_DEFAULTS, type InjectionSettings } from '../../kubernetes/injection/types.ts';
import { type Decoder, imageReference, name, oneOf, parsed, trustDomain } from '../../mesh/config/decoders.ts';
import { EXIT, PosternError } from '../../mesh/errors.ts';
import { readInput } from './read-input.ts';

/** The command line's texts; absent: what the control plane's settings say, else the default. */
export interface SettingsFlags {
  readonly config?: string;
  readonly namespace?: string;
  readonly image?: string;
  readonly imagePullPolicy?: 'Always' | 'IfNotPresent' | 'Never';
  readonly trustDomain?: string;
  readonly controlPlane?: string;
  readonly nativeSidecar?: 'true' | 'false';
  readonly logLevel?: string;
  readonly understandIstioLabels?: true;
}

const MAX_CONFIG_BYTES = 1024 * 1024;

const ORIGIN: Decoder<string> = parsed(
  'an https origin such as https://postern-control-plane.postern-system.svc:15012',
  '',
  (value) => {
    const url = URL.parse(value);
    return url !== null && url.protocol === 'https:' && url.href === `${url.origin}/` ? url.origin : null;
  },
);

/** @throws PosternError ERR_USAGE that names the flag, ERR_CONFIG for what is wrong in the file. */
export async function injectionSettings(flags: SettingsFlags): Promise<InjectionSettings> {
  const base = flags.config === undefined ? null : await settingsOf(flags.config);
  const image = read('--image', flags.image, imageReference) ?? base?.image;
  if (image === undefined) {
    throw usage('name the image of the sidecar: --image registry.example/postern:1.0, or --config control-plane.yaml');
  }
  read('--namespace', flags.namespace, name);
  return {
    ...INJECTION_DEFAULTS,
    controlPlaneAddress: 'https://postern-control-plane.postern-system.svc:15012',
    trustDomain: 'cluster.local',
    ...base,
    image,
    ...given('imagePullPolicy', flags.imagePullPolicy),
    ...given('trustDomain', read('--trust-domain', flags.trustDomain, trustDomain)),
    ...given('controlPlaneAddress', read('--control-plane', flags.controlPlane, ORIGIN)),
    ...given('nativeSidecar', flags.nativeSidecar === undefined ? undefined : flags.nativeSidecar === 'true'),
    ...given(
      'logLevel',
      read('--log-level', flags.logLevel, oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent')),
    ),
    ...given('understandIstioLabels', flags.understandIstioLabels),
  };
}

async function settingsOf(file: string): Promise<InjectionSettings> {
  const { kubernetes } = parseControlPlaneConfig(await readInput(file, MAX_CONFIG_BYTES), file);
  if (kubernetes !== null) return kubernetes.injection;
  throw new PosternError('ERR_CONFIG', `${file} has no section kubernetes: it is of a control plane on one machine`, {
    exitCode: EXIT.config,
  });
}

function given<K extends keyof InjectionSettings>(
  key: K,
  value: InjectionSettings[K] | undefined,
): Partial<InjectionSettings> {
  return value === undefined ? {} : { [key]: value };
}

function read<T>(flag: string, value: string | undefined, decoder: Decoder<T>): T | undefined {
  if (value === undefined) return undefined;
  const decoded = decoder.read(value);
  if (decoded === null) throw usage(`${flag} must be ${decoder.expects}, not ${JSON.stringify(value)}`);
  return decoded;
}

function usage(message: string): PosternError {
  return new PosternError('ERR_USAGE', message, { exitCode: EXIT.usage });
}
