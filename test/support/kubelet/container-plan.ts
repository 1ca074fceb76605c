import { fileURLToPath } from 'node:url';
import type { JsonObject } from '../../../policy/types.ts';
import { at, objectsAt, textAt, textsAt } from '../kubernetes/objects.ts';
import { environmentOf, expand } from './environment.ts';
import type { Mount } from './volumes.ts';

/** This repository: the contents of the image, and of the test application's. */
export const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

interface Image {
  readonly entrypoint: readonly string[];
  readonly userId: number;
}

/** By the last part of the name, without the tag. */
const IMAGES: { readonly [name: string]: Image } = {
  postern: { entrypoint: ['postern'], userId: 65_532 },
  app: { entrypoint: [process.execPath, fileURLToPath(new URL('./app.ts', import.meta.url))], userId: 1000 },
};

/** The image's own environment. `postern` is in its PATH. */
const IMAGE_ENVIRONMENT = { PATH: '/opt/postern/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

/** What a container runtime gives to those who ask for nothing. */
const DEFAULT_CAPABILITIES = [
  'chown',
  'dac_override',
  'fowner',
  'fsetid',
  'kill',
  'setgid',
  'setuid',
  'setpcap',
  'net_bind_service',
  'net_raw',
  'sys_chroot',
  'mknod',
  'audit_write',
  'setfcap',
];

/** All that is needed to start a container's process. */
export interface ContainerPlan {
  readonly argv: readonly string[];
  readonly environment: ReadonlyMap<string, string>;
  readonly userId: number;
  readonly groupId: number;
  readonly groups: readonly number[];
  readonly capabilities: readonly string[];
  readonly noNewPrivileges: boolean;
  readonly readOnlyRoot: boolean;
  readonly mounts: readonly Mount[];
}

export interface PodFacts {
  /** With its addresses. */
  readonly pod: JsonObject;
  /** Where the API server is, and the node's own variables. */
  readonly environment: { readonly [name: string]: string };
}

/** @throws Error where the kubelet would refuse to start it (CreateContainerConfigError), or this one cannot. */
export function planContainer(
  { pod, environment }: PodFacts,
  container: JsonObject,
  mounts: readonly Mount[],
): ContainerPlan {
  const name = textAt(container, 'image').split('/').at(-1)?.split(/[:@]/)[0] ?? '';
  const image = IMAGES[name];
  if (image === undefined) throw new Error(`this kubelet has no image ${JSON.stringify(textAt(container, 'image'))}`);
  const variables = environmentOf(pod, container, { ...IMAGE_ENVIRONMENT, ...environment });
  const words = (field: string): readonly string[] => textsAt(container, field).map((word) => expand(word, variables));
  const given = words('command');
  const setting = (field: string): unknown =>
    at(container, 'securityContext', field) ?? at(pod, 'spec', 'securityContext', field);
  const userId = Number(setting('runAsUser') ?? image.userId);
  if (setting('runAsNonRoot') === true && userId === 0) {
    throw new Error(`container ${textAt(container, 'name')} has runAsNonRoot and would run as root`);
  }
  const fsGroup = at(pod, 'spec', 'securityContext', 'fsGroup');
  return {
    argv: [...(given.length > 0 ? given : image.entrypoint), ...words('args')],
    environment: variables,
    userId,
    groupId: Number(setting('runAsGroup') ?? 0),
    groups: typeof fsGroup === 'number' ? [fsGroup] : [],
    capabilities: capabilitiesOf(container),
    noNewPrivileges: at(container, 'securityContext', 'allowPrivilegeEscalation') === false,
    readOnlyRoot: at(container, 'securityContext', 'readOnlyRootFilesystem') === true,
    mounts,
  };
}

function capabilitiesOf(container: JsonObject): readonly string[] {
  const named = (field: string): readonly string[] =>
    textsAt(container, 'securityContext', 'capabilities', field).map((name) => name.toLowerCase());
  const dropped = named('drop');
  const kept = DEFAULT_CAPABILITIES.filter((name) => !dropped.includes('all') && !dropped.includes(name));
  return [...kept, ...named('add')];
}

/** As whom, and with what: the words before a command, inside the container. Without --ambient-caps only root's processes get capabilities, as in a runtime. */
export function identityOf(plan: ContainerPlan): readonly string[] {
  const caps = ['-all', ...plan.capabilities.map((name) => `+${name}`)].join(',');
  return [
    'setpriv',
    `--reuid=${plan.userId}`,
    `--regid=${plan.groupId}`,
    plan.groups.length === 0 ? '--clear-groups' : `--groups=${plan.groups.join(',')}`,
    '--inh-caps=-all',
    `--bounding-set=${caps}`,
    ...(plan.noNewPrivileges ? ['--no-new-privs'] : []),
    '--pdeathsig',
    'KILL',
    '--',
    'env',
    '-i',
    ...[...plan.environment].map(([key, value]) => `${key}=${value}`),
  ];
}

/** The names of the containers of one kind. */
export const containersIn = (pod: JsonObject, field: 'containers' | 'initContainers'): readonly JsonObject[] =>
  objectsAt(pod, 'spec', field);
