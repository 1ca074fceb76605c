import type { RawInterceptOptions, Selection } from '../../mesh/intercept/options.ts';
import type { Findings } from '../../policy/validate/findings.ts';
import type { PodSettings } from './pod-settings.ts';

/** In the order in which they are given; the names of the flags follow from them. */
const FLAGS: readonly (keyof RawInterceptOptions)[] = [
  'includeInboundPorts',
  'excludeInboundPorts',
  'includeInboundCidrs',
  'excludeInboundCidrs',
  'includeOutboundPorts',
  'excludeOutboundPorts',
  'includeOutboundCidrs',
  'excludeOutboundCidrs',
  'excludeInterfaces',
];

/** The init container's command. It proves the redirection by real connections where it can: a pod whose redirection does not work never starts. */
export function redirectionCommand({ intercept, redirected }: PodSettings): readonly string[] {
  const flags = FLAGS.flatMap((option) => {
    const value = intercept[option];
    return value === undefined ? [] : [`--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`, value];
  });
  const validate = redirectsOutbound(redirected.outbound) ? ['--validate'] : [];
  return ['postern', 'intercept', 'apply', ...validate, ...flags];
}

/** Where no proof is possible the rules are only written. */
export function warnOfUnproven({ redirected }: PodSettings, findings: Findings): void {
  if (redirectsOutbound(redirected.outbound)) return;
  findings.warn(
    ['metadata', 'annotations'],
    'no outbound connection is redirected, by the annotations: that the inbound redirection works is not proven when the pod starts',
  );
}

/**
 * Whether outbound IPv4 is redirected at all. A pod can prove its redirection by outbound connections alone (inbound ones would need another network
 * namespace, which CAP_NET_ADMIN does not make), and a command that finds nothing to prove fails.
 */
function redirectsOutbound({ includePorts, excludePorts, includeCidrs, excludeCidrs }: Selection): boolean {
  const ports = includePorts ?? [{ from: 1, to: 65_535 }];
  // Both lists are merged: a range is left out whole by one other range, or not at all.
  const somePort = ports.some(({ from, to }) => !excludePorts.some((range) => range.from <= from && to <= range.to));
  const someAddress = includeCidrs === null || includeCidrs.some(({ family }) => family === 4);
  return somePort && someAddress && !excludeCidrs.some(({ family, prefix }) => family === 4 && prefix === 0);
}
