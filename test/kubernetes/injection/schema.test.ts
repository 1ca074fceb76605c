import { type IPod, Pod } from 'kubernetes-models/v1/Pod';
import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../policy/types.ts';
import { injected, podOf } from './support.ts';

/** @throws Error where the published schema of Kubernetes does not take the pod. Fields that it does not know it takes. */
const check = (pod: JsonObject): void => void new Pod(pod as unknown as IPod).validate();

const GIVEN = podOf({
  metadata: {
    annotations: {
      'postern.dev/exclude-inbound-ports': '9000',
      'postern.dev/cpu-limit': '1',
      'postern.dev/opaque-ports': '3306',
    },
  },
  spec: {
    initContainers: [
      { name: 'helper', image: 'h', restartPolicy: 'Always', startupProbe: { tcpSocket: { port: 80 } } },
    ],
    containers: [
      { name: 'app', image: 'a', readinessProbe: { httpGet: { port: 80 } }, livenessProbe: { grpc: { port: 90 } } },
    ],
  },
});

describe("by Kubernetes' own schema", () => {
  test.each([true, false])('an injected pod is a pod (native sidecar: %s)', (nativeSidecar) => {
    expect(() => check(injected(GIVEN, { nativeSidecar }))).not.toThrow();
  });

  test('what is none is told', () => {
    const pod = injected(GIVEN);
    expect(() => check({ ...pod, spec: { ...(pod.spec as JsonObject), containers: [{ name: 7 }] } })).toThrow();
  });
});
