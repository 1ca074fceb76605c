import { expect, test } from 'vitest';
import { fetchFacts } from '../../../cli/check/fetch.ts';
import { labelsOf } from '../../../cli/check/pods.ts';
import { runChecks } from '../../../cli/check/run.ts';
import { KubernetesClient } from '../../../kubernetes/api/client.ts';
import { clusterTests } from '../../support/kubelet/cluster-tests.ts';
import { MeshCluster, SYSTEM } from '../../support/kubelet/mesh-cluster.ts';
import { namespace, onlyClient, SHOP, service, serviceAccount } from '../../support/kubelet/shop.ts';
import { metaOf } from '../../support/kubernetes/objects.ts';

clusterTests('postern check', () => {
  test('finds nothing to mend in a mesh that runs, and finds what is broken in it', async () => {
    const mesh = await MeshCluster.start({ name: 'kcheck', replicas: 1 });
    const tls = { ca: mesh.cluster.ca, serverName: null, client: null };
    const access = async () => ({ tls, token: mesh.cluster.adminToken });
    const api = new KubernetesClient({ server: mesh.cluster.url, namespace: null, access, refused: () => {} });
    const troubles = async () => {
      const findings = runChecks(await fetchFacts(api, { before: false }), { before: false });
      return findings.filter(({ level }) => level !== 'ok').map(({ check, message }) => `${check}: ${message}`);
    };
    try {
      await mesh.apply(
        namespace(SHOP, true),
        service('server'),
        serviceAccount('server'),
        onlyClient('only-client', '/admin', { app: 'server' }),
      );
      await mesh.app(SHOP, 'server-1', { serviceAccount: 'server' });
      // There is no controller of Deployments here.
      const deployment = { apiVersion: 'apps/v1', kind: 'Deployment' };
      mesh.cluster.direct.update(deployment, SYSTEM, 'postern-control-plane', (object) => ({
        ...object,
        status: { observedGeneration: 99, updatedReplicas: 3, availableReplicas: 3 },
      }));
      expect(await troubles()).toEqual([]);

      const namespaces = { apiVersion: 'v1', kind: 'Namespace' };
      mesh.cluster.direct.update(namespaces, '', SHOP, (object) => ({
        ...object,
        metadata: {
          ...metaOf(object),
          labels: { ...labelsOf(object), 'pod-security.kubernetes.io/enforce': 'baseline' },
        },
      }));
      await mesh.apply(onlyClient('nobody', '/admin', { app: 'gone' }));
      expect(await troubles()).toEqual([
        expect.stringMatching(/^pod-security: .*shop$/),
        expect.stringMatching(/^policies-selecting: .*shop\/nobody$/),
      ]);
    } finally {
      await api.close();
      await mesh.stop();
    }
  });
});
