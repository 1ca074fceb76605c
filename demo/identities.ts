import { PosternError } from '../mesh/errors.ts';
import { fetchFrom } from './http.ts';
import type { Mesh } from './mesh.ts';
import { PORTS, WORKLOAD_NAMES, type WorkloadName } from './workloads.ts';

export interface Identity {
  readonly name: WorkloadName;
  readonly spiffeId: string;
  readonly notAfter: Date;
}

/** The certificate of each workload, as its sidecar's admin port tells it. @throws PosternError where one tells none. */
export async function readIdentities(mesh: Mesh): Promise<readonly Identity[]> {
  return await Promise.all(
    WORKLOAD_NAMES.map(async (name) => {
      const { status, body } = await fetchFrom(mesh.site.door(mesh.workloads[name].place, PORTS.admin), '/certs');
      const identity = status === 200 ? parseIdentity(name, body) : null;
      if (identity === null) {
        throw new PosternError(
          'ERR_DEMO_IDENTITY',
          `${name}'s sidecar tells no certificate: ${status} ${body.slice(0, 300)}`,
        );
      }
      return identity;
    }),
  );
}

function parseIdentity(name: WorkloadName, body: string): Identity | null {
  const facts: { readonly [field: string]: unknown } = JSON.parse(body);
  const { spiffeId, notAfter } = facts;
  if (typeof spiffeId !== 'string' || (typeof notAfter !== 'string' && typeof notAfter !== 'number')) return null;
  return { name, spiffeId, notAfter: new Date(notAfter) };
}
