import { asObject, asString, field, isList } from '../../policy/json.ts';
import type { JsonObject, JsonValue } from '../../policy/types.ts';
import type { Findings } from '../../policy/validate/findings.ts';
import { containersOf, effectiveSecurity, itemsOf, type PodContainer, specOf, tcpPortsOf } from './pod.ts';
import { INJECTED } from './types.ts';

/** Ports at which the sidecar listens in the pod's network. */
const SIDECAR_LISTENS: readonly number[] = [15_000, 15_001, 15_006, 15_008, 15_020, 15_021];

/** Sidecars of other meshes: they redirect connections as well, and only one can. */
const OTHERS: readonly (readonly [container: string, mesh: string])[] = [
  ['istio-proxy', 'Istio'],
  ['linkerd-proxy', 'Linkerd'],
  ['kuma-sidecar', 'Kuma'],
  ['consul-dataplane', 'Consul'],
];

/** The mesh whose sidecar the pod has already; null where it has none but perhaps ours. */
export function otherMesh(pod: JsonObject): string | null {
  const names = new Set(containersOf(pod).map(({ name }) => name));
  return OTHERS.find(([container]) => names.has(container))?.[1] ?? null;
}

/**
 * What would break the sidecar, or let the application pass it by: reported as errors where it certainly does, as warnings where the author may
 * have reasons. `pod` is as its author wrote it, without what an earlier injection added.
 */
export function checkHazards(pod: JsonObject, findings: Findings): void {
  for (const container of containersOf(pod)) {
    checkName(container, findings);
    checkPorts(container, findings);
    checkUser(pod, container, findings);
    checkMounts(container, findings);
    warnOfPrivileges(container, findings);
  }
  checkVolumes(pod, findings);
  warnOfPodSettings(pod, findings);
}

function checkName({ name, path }: PodContainer, findings: Findings): void {
  if (name !== INJECTED.initContainer && name !== INJECTED.sidecar) return;
  findings.error(
    [...path, 'name'],
    `a container of the pod's own is called ${name}, as the injected one: give it another name`,
  );
}

function checkPorts(container: PodContainer, findings: Findings): void {
  for (const { port, path } of tcpPortsOf(container)) {
    if (!SIDECAR_LISTENS.includes(port)) continue;
    findings.error(
      [...path, 'containerPort'],
      `container ${container.name} uses port ${port}, at which the sidecar listens: let it listen at another (the sidecar's are ${SIDECAR_LISTENS.join(', ')})`,
    );
  }
}

/**
 * Connections of the sidecar's user and group are not redirected: whoever runs as them passes the mesh by. The user that an image names, and one
 * that a root process turns into, cannot be seen here: redirection keeps honest applications in the mesh, and is no wall around hostile ones.
 */
function checkUser(pod: JsonObject, container: PodContainer, findings: Findings): void {
  for (const key of ['runAsUser', 'runAsGroup']) {
    const found = effectiveSecurity(pod, container, key);
    if (found?.value !== INJECTED.userId) continue;
    findings.error(
      found.path,
      `container ${container.name} has ${key} ${INJECTED.userId}, the sidecar's own, whose connections are not redirected: choose another`,
    );
  }
}

function checkMounts(container: PodContainer, findings: Findings): void {
  const mounts = field(container.object, 'volumeMounts');
  if (!isList(mounts)) return;
  for (const [index, mount] of mounts.entries()) {
    const name = asString(field(asObject(mount), 'name')) ?? '';
    if (name !== INJECTED.tokenVolume && name !== INJECTED.trustVolume) continue;
    findings.error(
      [...container.path, 'volumeMounts', index],
      `container ${container.name} mounts ${name}, a volume of the sidecar's alone: define a volume of your own`,
    );
  }
}

function checkVolumes(pod: JsonObject, findings: Findings): void {
  for (const [index, volume] of itemsOf(pod, 'volumes').entries()) {
    const name = asString(field(volume, 'name')) ?? '';
    if (name !== INJECTED.tokenVolume && name !== INJECTED.trustVolume) continue;
    findings.error(
      ['spec', 'volumes', index, 'name'],
      `a volume of the pod's own is called ${name}, as an injected one: give it another name`,
    );
  }
}

function warnOfPrivileges(container: PodContainer, findings: Findings): void {
  const security = asObject(field(container.object, 'securityContext'));
  const path = [...container.path, 'securityContext'];
  if (field(security, 'privileged') === true) {
    findings.warn(
      [...path, 'privileged'],
      `container ${container.name} is privileged: it can undo the redirection and pass the mesh by`,
    );
    return;
  }
  const added = field(asObject(field(security, 'capabilities')), 'add');
  const powers = (isList(added) ? added : []).filter((name) => POWERS.includes(String(name)));
  if (powers.length === 0) return;
  findings.warn(
    [...path, 'capabilities', 'add'],
    `container ${container.name} has ${powers.join(', ')}: it can undo the redirection or reach into the sidecar`,
  );
}

const POWERS: readonly JsonValue[] = ['NET_ADMIN', 'SYS_ADMIN', 'SYS_PTRACE', 'ALL', 'CAP_NET_ADMIN', 'CAP_SYS_ADMIN'];

function warnOfPodSettings(pod: JsonObject, findings: Findings): void {
  const spec = specOf(pod);
  if (field(spec, 'shareProcessNamespace') === true) {
    findings.warn(
      ['spec', 'shareProcessNamespace'],
      'spec.shareProcessNamespace is true: containers see the sidecar and, as root, can end it; remove it where it is not needed',
    );
  }
  const security = asObject(field(spec, 'securityContext'));
  const groups = field(security, 'supplementalGroups');
  const isMember =
    field(security, 'fsGroup') === INJECTED.userId || (isList(groups) && groups.includes(INJECTED.userId));
  if (isMember) {
    findings.warn(
      ['spec', 'securityContext'],
      `the pod's containers are members of group ${INJECTED.userId}, the sidecar's own: a program that takes it as its primary group passes the mesh by; choose another group`,
    );
  }
  const sysctls = field(security, 'sysctls');
  for (const [index, sysctl] of (isList(sysctls) ? sysctls : []).entries()) {
    const object = asObject(sysctl);
    if (asString(field(object, 'name')) !== 'net.ipv4.ip_local_port_range') continue;
    const [from = 0, to = 0] = (asString(field(object, 'value')) ?? '').trim().split(/\s+/).map(Number);
    const taken = SIDECAR_LISTENS.filter((port) => from <= port && port <= to);
    if (taken.length === 0) continue;
    findings.warn(
      ['spec', 'securityContext', 'sysctls', index],
      `net.ipv4.ip_local_port_range holds ports of the sidecar (${taken.join(', ')}), which the application's connections may take: begin it at 15022 or later`,
    );
  }
}
