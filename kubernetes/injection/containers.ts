import type { JsonObject } from '../../policy/types.ts';
import type { PodSettings } from './pod-settings.ts';
import { HEALTH_PORT } from './probes.ts';
import { redirectionCommand } from './redirection.ts';
import { REFERENCES } from './sidecar-settings.ts';
import { INJECTED, type InjectionSettings } from './types.ts';

/** Seconds that a pod may wait for its sidecar before the kubelet starts the sidecar anew. */
const START_SECONDS = 600;

export function initContainer(pod: PodSettings, settings: InjectionSettings): JsonObject {
  return {
    name: INJECTED.initContainer,
    ...image(pod, settings),
    command: redirectionCommand(pod),
    resources: resources(pod),
    securityContext: {
      ...CONFINED,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
      // Packet rules need root besides the capabilities. Said for the container, since the pod may demand the contrary of all others.
      runAsNonRoot: false,
      runAsUser: 0,
      runAsGroup: 0,
    },
  };
}

/** `text`: the settings as `sidecarSettings` writes them. */
export function sidecarContainer(pod: PodSettings, settings: InjectionSettings, text: string): JsonObject {
  return {
    name: INJECTED.sidecar,
    ...image(pod, settings),
    // An init container that stays: the kubelet starts what follows once it is ready, and ends it after the application.
    ...(pod.nativeSidecar ? { restartPolicy: 'Always' } : {}),
    command: ['postern', 'proxy', '--config', `env:${INJECTED.settingsVariable}`],
    // References work backwards only: the settings come last.
    env: [
      ...REFERENCES.map(([name, fieldPath]) => ({ name, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } })),
      { name: INJECTED.settingsVariable, value: text },
    ],
    ports: [
      { name: 'postern-tunnel', containerPort: 15_008, protocol: 'TCP' },
      { name: 'postern-metrics', containerPort: 15_020, protocol: 'TCP' },
      { name: 'postern-health', containerPort: HEALTH_PORT, protocol: 'TCP' },
    ],
    resources: resources(pod),
    securityContext: {
      ...CONFINED,
      capabilities: { drop: ['ALL'] },
      runAsNonRoot: true,
      runAsUser: INJECTED.userId,
      runAsGroup: INJECTED.userId,
    },
    startupProbe: ask('/healthz/ready', { periodSeconds: 1, failureThreshold: START_SECONDS }),
    readinessProbe: ask('/healthz/ready', { periodSeconds: 5, failureThreshold: 3 }),
    livenessProbe: ask('/healthz/live', { periodSeconds: 10, failureThreshold: 6 }),
    lifecycle: pod.nativeSidecar
      ? // Run when deletion begins; SIGTERM comes after the application's end.
        { preStop: exec('postern', 'drain', '--inbound') }
      : // The kubelet starts the next container when this has ended.
        { postStart: exec('postern', 'wait', '--timeout', `${START_SECONDS}s`) },
    volumeMounts: [
      { name: INJECTED.tokenVolume, mountPath: directory(INJECTED.tokenPath), readOnly: true },
      { name: INJECTED.trustVolume, mountPath: INJECTED.trustPath, readOnly: true },
    ],
  };
}

/**
 * The token and the trust bundle, which the sidecar alone mounts.
 *
 * Who may read the token is the kubelet's rule (pkg/volume/projected, pkg/volume/util.FsUserFrom, SetVolumeOwnership): the file has `defaultMode`
 * and belongs to root, unless (1) every container of the pod has the same runAsUser: then 0600 and that user's; or (2) the pod has an fsGroup: then
 * 0600, raised to 0640 for that group, which every container is a member of. (1) never holds here, since postern-init is user 0 and the sidecar
 * user 1337; with (2) the sidecar reads it as a member. Otherwise it takes 0444: nobody but the sidecar has the volume.
 */
export function volumes(settings: InjectionSettings): readonly JsonObject[] {
  const { configMap, key } = settings.trustBundle;
  const token = INJECTED.tokenPath.slice(directory(INJECTED.tokenPath).length + 1);
  const { tokenAudience: audience, tokenSeconds: expirationSeconds } = settings;
  return [
    {
      name: INJECTED.tokenVolume,
      projected: {
        defaultMode: 0o444,
        sources: [{ serviceAccountToken: { audience, expirationSeconds, path: token } }],
      },
    },
    // Not optional: the pod waits until the control plane has published its roots in this namespace.
    { name: INJECTED.trustVolume, configMap: { name: configMap, defaultMode: 0o444, items: [{ key, path: key }] } },
  ];
}

/** No process of it ever gains what it was not started with. No writable directory either: neither container needs one. */
const CONFINED = {
  privileged: false,
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  seccompProfile: { type: 'RuntimeDefault' },
} as const;

function image(pod: PodSettings, { imagePullPolicy }: InjectionSettings): JsonObject {
  return { image: pod.image, ...(imagePullPolicy === null ? {} : { imagePullPolicy }) };
}

function resources({ resources: { requests, limits } }: PodSettings): JsonObject {
  return {
    ...(Object.keys(requests).length === 0 ? {} : { requests }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
}

function ask(path: string, timing: { readonly periodSeconds: number; readonly failureThreshold: number }): JsonObject {
  return { httpGet: { path, port: HEALTH_PORT }, timeoutSeconds: 3, ...timing };
}

function exec(...command: string[]): JsonObject {
  return { exec: { command } };
}

function directory(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}
