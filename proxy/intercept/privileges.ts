import { EXIT, PosternError } from '../../mesh/errors.ts';
import type { InterceptOptions } from '../../mesh/intercept/options.ts';
import type { Machine } from './machine.ts';

/** capabilities(7), include/uapi/linux/capability.h. */
const CAP_NET_ADMIN = 12n;

/** Whether this process may change the network of its own network namespace, as far as /proc/self/status tells. */
export function hasNetAdmin(status: string): boolean {
  const effective = /^CapEff:\s*([0-9a-f]{1,16})$/m.exec(status)?.[1];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n;
}

/** @throws PosternError ERR_INTERCEPT_PLATFORM off Linux, ERR_INTERCEPT_PRIVILEGE without CAP_NET_ADMIN. */
export function requireNetAdmin(machine: Machine): void {
  const status = machine.read('/proc/self/status');
  if (status === null) {
    const message = 'redirection needs Linux with /proc mounted: /proc/self/status cannot be read';
    throw new PosternError('ERR_INTERCEPT_PLATFORM', message, { exitCode: EXIT.unavailable });
  }
  if (hasNetAdmin(status)) return;
  throw privilegeError('this process has no CAP_NET_ADMIN');
}

export function privilegeError(what: string): PosternError {
  return new PosternError(
    'ERR_INTERCEPT_PRIVILEGE',
    `not allowed to change the packet rules of this network namespace (${what}): run as root, in a container with the capabilities ` +
      'NET_ADMIN and NET_RAW (iptables needs both), or inside `unshare --user --map-root-user --net`',
    { exitCode: EXIT.noPermission },
  );
}

/** Whether `id` exists in the user namespace whose uid_map or gid_map (user_namespaces(7)) this is. */
export function isMapped(map: string, id: number): boolean {
  return map.split('\n').some((line) => {
    const [inside, , count] = line.trim().split(/\s+/).map(Number);
    return inside !== undefined && count !== undefined && id >= inside && id < inside + count;
  });
}

/**
 * Leaves out an exempt UID or GID that does not exist in this user namespace: no process can have it, and the kernel refuses it in an
 * iptables rule.
 *
 * @throws PosternError ERR_INTERCEPT_UNMAPPED where nothing would be left by which the sidecar is exempt.
 */
export function withoutUnmappedIds(
  options: InterceptOptions,
  machine: Machine,
): { readonly options: InterceptOptions; readonly warnings: readonly string[] } {
  const warnings: string[] = [];
  const keep = (id: number | null, file: string, name: string): number | null => {
    const map = machine.read(file);
    if (id === null || map === null || isMapped(map, id)) return id;
    warnings.push(`${name} ${id} does not exist in this user namespace and is left out of the exemption`);
    return null;
  };
  const uid = keep(options.uid, '/proc/self/uid_map', 'UID');
  const gid = keep(options.gid, '/proc/self/gid_map', 'GID');
  if (uid === null && gid === null && options.mark === null) {
    throw new PosternError(
      'ERR_INTERCEPT_UNMAPPED',
      `${warnings.join('; ')}: nothing would exempt the sidecar, which would intercept itself. Give --mark N and let the sidecar mark its ` +
        'connections with the same number (outbound.mark in proxy.yaml)',
      { exitCode: EXIT.config },
    );
  }
  return { options: { ...options, uid, gid }, warnings };
}
