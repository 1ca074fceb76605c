/** How pods get their sidecar; what annotations do not say. Part of the control plane's settings, and of the options of `postern inject`. */
export interface InjectionSettings {
  /** The one image: sidecar, init container, control plane. */
  readonly image: string;
  readonly imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never' | null;
  /** Origin of the control plane, `https://postern-control-plane.postern-system.svc:15012`. */
  readonly controlPlaneAddress: string;
  readonly trustDomain: string;
  /** ConfigMap with the mesh's roots in every namespace, and its key. */
  readonly trustBundle: { readonly configMap: string; readonly key: string };
  /** Of the projected service account token. */
  readonly tokenAudience: string;
  /** Lifetime that the kubelet is asked for, seconds; at least 600. */
  readonly tokenSeconds: number;
  /** False: the cluster is older than 1.29 and knows no init containers with `restartPolicy: Always`. */
  readonly nativeSidecar: boolean;
  /** Whether the namespace label `istio-injection: enabled` (and Istio's pod label and annotation) selects as well. */
  readonly understandIstioLabels: boolean;
  readonly resources: {
    readonly requests: { readonly [resource: string]: string };
    readonly limits: { readonly [resource: string]: string };
  };
  readonly logLevel: string;
}

export const INJECTION_DEFAULTS = {
  imagePullPolicy: null,
  trustBundle: { configMap: 'postern-ca-roots', key: 'root-cert.pem' },
  tokenAudience: 'postern',
  // The kubelet makes a token anew when a fifth of its life is left by the node's clock, while the API server judges it by its own: of 12 hours (Istio's
  // choice too) the clocks may be two hours apart. It is over with its pod in any case.
  tokenSeconds: 43_200,
  nativeSidecar: true,
  understandIstioLabels: false,
  resources: { requests: { cpu: '10m', memory: '64Mi' }, limits: { memory: '256Mi' } },
  logLevel: 'info',
} as const;

/** Names that the injector writes and others look for. */
export const INJECTED = {
  initContainer: 'postern-init',
  sidecar: 'postern-proxy',
  tokenVolume: 'postern-token',
  tokenPath: '/var/run/secrets/postern/token',
  trustVolume: 'postern-ca-roots',
  trustPath: '/var/run/postern/ca',
  /** The sidecar's settings as JSON, with `$(VAR)` references that the kubelet expands; read by `postern proxy --config env:POSTERN_CONFIG`. */
  settingsVariable: 'POSTERN_CONFIG',
  /** Annotation on the pod: JSON of what was injected (version, image, containers, volumes). Its presence says that there is a sidecar. */
  statusAnnotation: 'postern.dev/status',
  /** Label and annotation, on pods and (label) namespaces: `enabled` or `disabled`. */
  injectKey: 'postern.dev/inject',
  /** Label on pods: name of the Deployment, StatefulSet, … that telemetry shows. */
  workloadLabel: 'postern.dev/workload',
  /** UID and GID of the sidecar. */
  userId: 1337,
} as const;
