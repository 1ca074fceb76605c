import { INJECTED } from '../../kubernetes/injection/types.ts';
import { NATIVE_SIDECAR_MINOR, OLDEST_MINOR } from '../../kubernetes/install/install.ts';
import { check, type Facts, listed, type Report } from './facts.ts';
import { labelsOf, nameOf } from './pods.ts';
import { meshFacts } from './settings.ts';

/** The cluster itself: whether Postern can run in it. */
export const CLUSTER_CHECKS = [
  check('version', 'always', checkVersion),
  check('permissions', 'before', checkPermissions),
  check('istio', 'always', checkIstio),
];

function checkVersion({ version }: Facts, report: Report): void {
  if (!version.ok) {
    report.error(`the API server does not answer: ${version.why}`, 'see kubectl version, --context and --kubeconfig');
    return;
  }
  const { major, minor, gitVersion } = version.value;
  const newer = (than: number): boolean => major > 1 || minor >= than;
  if (!newer(OLDEST_MINOR)) {
    report.error(
      `the cluster runs Kubernetes ${gitVersion}`,
      `bring it to 1.${OLDEST_MINOR} at least, better 1.${NATIVE_SIDECAR_MINOR}`,
    );
  } else if (!newer(NATIVE_SIDECAR_MINOR)) {
    report.warning(
      `Kubernetes ${gitVersion} has no native sidecars: init containers are outside of the mesh, and Jobs end only because the sidecar notices`,
      `bring the cluster to 1.${NATIVE_SIDECAR_MINOR}`,
    );
  } else report.ok(`the API server answers, Kubernetes ${gitVersion}`);
}

function checkPermissions({ permissions }: Facts, report: Report): void {
  const unknown = permissions.find(({ allowed }) => !allowed.ok)?.allowed;
  if (unknown !== undefined) {
    report.need(unknown, 'what you may do');
    return;
  }
  const lacking = permissions.filter(({ allowed }) => allowed.ok && !allowed.value);
  if (lacking.length === 0) {
    report.ok('you may install');
    return;
  }
  const what = lacking.map(({ verb, resource }) => `${verb} ${resource}`);
  report.error(`you may not ${listed(what)}`, 'install as a user with the role cluster-admin');
}

function checkIstio(facts: Facts, report: Report): void {
  const configurations = report.need(facts.mutating, 'the mutating webhooks');
  const namespaces = report.need(facts.namespaces, 'the namespaces');
  if (configurations === null || namespaces === null) return;
  const injectors = configurations.map(nameOf).filter((name) => /^istio-(sidecar-injector|revision-tag)/.test(name));
  if (injectors.length === 0) {
    report.ok("Istio's injector is not here");
    return;
  }
  if (meshFacts(facts).understandIstioLabels) {
    report.error(
      `Istio's injector (${listed(injectors)}) is here, and Postern takes Istio's labels as well: pods would get two sidecars`,
      'uninstall Istio, or set kubernetes.injection.understandIstioLabels to false and leave out --component istio-labels',
    );
    return;
  }
  const both = namespaces.filter((namespace) => {
    const labels = labelsOf(namespace);
    const isIstio = labels['istio-injection'] === 'enabled' || labels['istio.io/rev'] !== undefined;
    return isIstio && labels[INJECTED.injectKey] === 'enabled';
  });
  if (both.length > 0) {
    report.error(
      `namespaces are labelled for Istio and for Postern, so that pods get two sidecars: ${listed(both.map(nameOf))}`,
      'remove one of the labels istio-injection (or istio.io/rev) and postern.dev/inject',
    );
    return;
  }
  report.warning(
    `Istio is installed beside us (${listed(injectors)}): its policies are read by both meshes`,
    'keep each namespace in one mesh; the two trust each other only with a common root',
  );
}
