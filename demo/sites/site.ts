import type { ChildProcess } from 'node:child_process';
import type { WorkloadName } from '../workloads.ts';

/** Where something listens as the demo's own process reaches it. */
export type Door = { readonly socketPath: string } | { readonly host: string; readonly port: number };

/** A machine of the small world, as far as a process can tell. */
export interface Place {
  readonly name: string;
  readonly address: string;
}

/** Whom a process runs as: the application and the sidecar of a pod are different users. */
export type Role = 'system' | 'application' | 'sidecar';

/**
 * What differs between a mesh in network namespaces and one on loopback addresses. Whatever a site starts itself it also ends in `close`.
 */
export interface Site {
  /** One line for the user: which kind this is, and why. */
  readonly description: string;
  /** Whether traffic is redirected, so that applications need to know nothing. */
  readonly redirected: boolean;
  readonly controlPlane: Place;
  readonly workloads: { readonly [name in WorkloadName]: Place };
  /** A place in the same network without a sidecar. */
  readonly outsider: Place;
  /** Owner for files that the sidecar alone reads; null: no change. */
  readonly sidecarUid: number | null;
  spawn(place: Place, argv: readonly string[], role: Role): ChildProcess;
  /** Makes the port reachable from the demo's process. */
  door(place: Place, port: number): Door;
  /** A URL at which the user reaches the port. */
  url(place: Place, port: number): string;
  /** The parts of proxy.yaml that depend on the site. */
  proxySettings(name: WorkloadName): { readonly [key: string]: unknown };
  /** Where the application of `name` listens. */
  application(name: WorkloadName): { readonly host: string; readonly port: number };
  /** What an application dials to reach a service. */
  target(caller: WorkloadName, service: WorkloadName): { readonly host: string; readonly port: number };
  /** What somebody without a sidecar dials. */
  bypass(service: WorkloadName): { readonly host: string; readonly port: number };
  /** How a person does by hand what the application of `caller`, process `pid`, does. */
  commandLine(caller: WorkloadName, service: WorkloadName, pid: number): string;
  close(): Promise<void>;
}
