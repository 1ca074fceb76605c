import { parseControlPlaneConfig } from '../../control-plane/config.ts';
import { SETTINGS } from '../../kubernetes/install/settings.ts';
import { rolloutOf } from '../../kubernetes/install/wait.ts';
import { readLease } from '../../kubernetes/lease/lease-record.ts';
import { messageOf } from '../../mesh/errors.ts';
import { readCertificates } from '../../mesh/x509/certificate.ts';
import { field, stringMap } from '../../policy/json.ts';
import type { JsonObject } from '../../policy/types.ts';
import { check, type Facts, type Report } from './facts.ts';
import { labelsOf, nameOf, namespaceOf } from './pods.ts';
import { meshFacts, settingsText } from './settings.ts';

/** The control plane: whether it runs, who leads, and what its authority is made of. */
export const CONTROL_PLANE_CHECKS = [
  check('control-plane', 'after', checkDeployment),
  check('settings', 'after', checkSettings),
  check('leader', 'after', checkLeader),
  check('authority', 'after', checkAuthority),
];

const LEASE = 'postern-control-plane';
const APP_LABEL = 'app.kubernetes.io/name';
/** Beyond the lease's own duration: clocks of nodes and of this machine differ. Milliseconds. */
const CLOCK_SLACK_MS = 60_000;
const DAY_MS = 86_400_000;
/** What ends sooner than this is complained about: a root, which people replace; an intermediate, which is renewed long before by itself. */
const WARN_DAYS = { root: 30, intermediate: 7 } as const;

function checkDeployment(facts: Facts, report: Report): void {
  const deployments = report.need(facts.deployments, `the deployments in ${facts.namespace}`);
  if (deployments === null) return;
  const deployment = deployments.find((one) => nameOf(one) === SETTINGS.deployment);
  if (deployment === undefined) {
    report.error(`there is no Deployment ${facts.namespace}/${SETTINGS.deployment}`, 'run postern install');
    return;
  }
  const pods = (facts.pods.ok ? facts.pods.value : []).filter(
    (pod) => namespaceOf(pod) === facts.namespace && labelsOf(pod)[APP_LABEL] === SETTINGS.deployment,
  );
  const state = rolloutOf(deployment, pods);
  if (state.done) report.ok('the control plane runs');
  else
    report.error(
      `the control plane: ${state.missing}`,
      `see kubectl -n ${facts.namespace} describe pods, and the log of deployment/${SETTINGS.deployment}`,
    );
}

function checkSettings(facts: Facts, report: Report): void {
  if (report.need(facts.settings, 'the settings') === null) return;
  const text = settingsText(facts);
  const where = `ConfigMap ${facts.namespace}/${SETTINGS.configMap}`;
  if (text === null) {
    report.error(`${where} has no ${SETTINGS.key}`, 'run postern install');
    return;
  }
  try {
    const { kubernetes } = parseControlPlaneConfig(text, SETTINGS.key);
    if (kubernetes !== null) {
      report.ok('its settings are in order');
      return;
    }
    report.error(
      `${where} is of a control plane on one machine`,
      'write the section kubernetes, or run postern install',
    );
  } catch (error) {
    report.error(`${where}: ${messageOf(error)}`, 'put it right: the control plane does not start with it');
  }
}

function checkLeader(facts: Facts, report: Report): void {
  const leases = report.need(facts.leases, `the leases in ${facts.namespace}`);
  if (leases === null) return;
  const lease = leases.find((one) => nameOf(one) === LEASE);
  const remedy = `see the log of deployment/${SETTINGS.deployment} in ${facts.namespace}: no status is written, no root rotated, no caBundle kept`;
  const record = lease === undefined ? null : readLease(lease);
  if (record === null || record.holder === '') {
    report.error('no replica of the control plane leads', remedy);
    return;
  }
  const renewedAt = Date.parse(record.renewTime);
  const allowed = (record.durationSeconds ?? 15) * 1000 + CLOCK_SLACK_MS;
  if (!(facts.now - renewedAt <= allowed)) {
    report.error(`the leader ${record.holder} has not renewed its lease since ${record.renewTime || 'ever'}`, remedy);
  } else report.ok(`${record.holder} leads`);
}

function checkAuthority(facts: Facts, report: Report): void {
  const secrets = report.need(facts.secret, "the authority's Secret");
  if (secrets === null) return;
  const { secret: name, externalAuthority } = meshFacts(facts);
  const where = `Secret ${facts.namespace}/${name}`;
  const [secret] = secrets;
  if (secret === undefined) {
    report.error(
      `${where} is missing: there is no certificate authority`,
      externalAuthority
        ? 'have cert-manager or Vault fill it: tls.crt with an intermediate CA, tls.key, ca.crt'
        : 'a control plane that runs puts it back; else see its log',
    );
    return;
  }
  for (const { file, text } of certificatesOf(secret)) {
    const isRoot = file.startsWith('root-') || file === 'ca.crt';
    checkCertificates({ where: `${where}, ${file},`, text, isRoot }, facts.now, report);
  }
  if (report.findings.length === 0) report.ok('the certificate authority is there, and lasts');
}

/** The certificates of the Secret. NEVER its keys. */
function certificatesOf(secret: JsonObject): readonly { readonly file: string; readonly text: string }[] {
  return [...stringMap(field(secret, 'data'))]
    .filter(([file]) => file.endsWith('.pem') || file.endsWith('.crt'))
    .map(([file, data]) => ({ file, text: Buffer.from(data, 'base64').toString('utf8') }));
}

function checkCertificates(
  { where, text, isRoot }: { readonly where: string; readonly text: string; readonly isRoot: boolean },
  now: number,
  report: Report,
): void {
  let ends: number;
  try {
    ends = Math.min(...readCertificates(text).map(({ notAfter }) => notAfter));
  } catch (error) {
    report.error(`${where}: ${messageOf(error)}`, 'restore it from a backup, or have its issuer fill it anew');
    return;
  }
  const days = Math.floor((ends - now) / DAY_MS);
  const when = new Date(ends).toISOString().slice(0, 10);
  const remedy = isRoot
    ? 'rotate the root: postern ca rotate in a pod of the leading control plane, or by the issuer outside'
    : "it should have been renewed by itself: see the leading control plane's log, or the issuer outside";
  if (days < 0) report.error(`${where} ended on ${when}`, remedy);
  else if (days < (isRoot ? WARN_DAYS.root : WARN_DAYS.intermediate))
    report.warning(`${where} ends on ${when}`, remedy);
}
