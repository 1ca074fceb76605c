import { CLUSTER_CHECKS } from './cluster.ts';
import { CONTROL_PLANE_CHECKS } from './control-plane.ts';
import { DEFINITION_CHECKS } from './definitions.ts';
import type { Facts, Finding } from './facts.ts';
import { INJECTION_CHECKS } from './injection.ts';
import { nameOf } from './pods.ts';
import { POLICY_CHECKS } from './policies.ts';
import { SERVICE_CHECKS } from './services.ts';
import { WEBHOOK_CHECKS } from './webhooks.ts';

export const CHECKS = [
  ...CLUSTER_CHECKS,
  ...DEFINITION_CHECKS,
  ...CONTROL_PLANE_CHECKS,
  ...WEBHOOK_CHECKS,
  ...INJECTION_CHECKS,
  ...SERVICE_CHECKS,
  ...POLICY_CHECKS,
];

/** Every check of its time, in order. @param before An installation is yet to come. */
export function runChecks(facts: Facts, { before }: { readonly before: boolean }): readonly Finding[] {
  const wanted = CHECKS.filter(({ when }) => when === 'always' || (when === 'before') === before);
  // Where nobody answers there is one thing to say.
  if (!facts.version.ok) return wanted.filter(({ name }) => name === 'version').flatMap((one) => one.run(facts));
  if (before || isInstalled(facts)) return wanted.flatMap((one) => one.run(facts));
  const always = wanted.filter(({ when }) => when === 'always').flatMap((one) => one.run(facts));
  return [...always, notInstalled(facts.namespace)];
}

/** Unless it is sure that it is not. */
function isInstalled({ namespaces, namespace }: Facts): boolean {
  return !namespaces.ok || namespaces.value.some((one) => nameOf(one) === namespace);
}

function notInstalled(namespace: string): Finding {
  const message = `there is no namespace ${namespace}: Postern is not installed in this cluster`;
  return { check: 'installed', level: 'error', message, remedy: 'run postern check --pre, then postern install' };
}

const SIGNS = { ok: '✓', warning: '!', error: '✗' } as const;

/** One line a finding, and how to mend it below. */
export function findingLines(findings: readonly Finding[]): readonly string[] {
  const width = Math.max(...findings.map(({ check }) => check.length));
  return findings.flatMap(({ check, level, message, remedy }) => [
    `${SIGNS[level]} ${check.padEnd(width)}  ${message}`,
    ...(remedy === null ? [] : [`${' '.repeat(width + 4)}→ ${remedy}`]),
  ]);
}
