import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { outcomeOf, succeeded } from './app-client.ts';
import type { DemoDirectory } from './directory.ts';
import { fetchFrom, until } from './http.ts';
import { HttpStory } from './http-story.ts';
import { readIdentities } from './identities.ts';
import type { Mesh, Workload } from './mesh.ts';
import { Observer } from './observer.ts';
import type { ProcessRoster } from './processes.ts';
import { sumOf } from './prometheus.ts';
import { type AccessRecord, decisionOf, isCallFrom, isRefusal, type LogLine, type Refusal } from './sidecar-log.ts';
import { aligned, arrow, clockTime, remaining, type Terminal } from './terminal.ts';
import { hexLine } from './wire.ts';
import { NAMESPACE, PORTS, SAMPLE_PATHS, TRUST_DOMAIN, WORKLOAD_NAMES, type WorkloadName } from './workloads.ts';

const CAPTURE = [process.execPath, join(import.meta.dirname, 'capture.ts')] as const;
/** The promise of the mesh: a rule that is saved is in force within a second. */
const CUT_WITHIN_MS = 1000;
/** An access-log line is written when its connection has ended. */
const RECORD_TIMEOUT_MS = 3000;
const SETTLE_TIMEOUT_MS = 10_000;
/** Captured segments come through a pipe. */
const CAPTURE_SETTLE_MS = 200;

export const POLICY_FILE = 'orders.yaml';

/** The story, chapter by chapter; each shows what happens and checks that it is what should. */
export class Story {
  readonly #mesh: Mesh;
  readonly #directory: DemoDirectory;
  readonly #roster: ProcessRoster;
  readonly #out: Terminal;

  constructor(mesh: Mesh, directory: DemoDirectory, roster: ProcessRoster, out: Terminal) {
    this.#mesh = mesh;
    this.#directory = directory;
    this.#roster = roster;
    this.#out = out;
  }

  async tell(): Promise<void> {
    await this.#identities();
    await this.#allowedCalls();
    await this.#deniedCalls();
    await new HttpStory(this.#mesh, this.#directory, this.#out).tell();
    await this.#wire();
    await this.#plaintext();
    await this.#livePolicy();
    await this.#metrics();
  }

  async #identities(): Promise<void> {
    this.#out.chapter(
      'Identities',
      'keys were made in each sidecar’s memory, certificates by the mesh’s own CA; they renew themselves',
    );
    const now = new Date();
    const certificates = await readIdentities(this.#mesh);
    const rows = aligned(
      certificates.map(({ name, spiffeId, notAfter }) => [
        name,
        spiffeId,
        `until ${clockTime(notAfter)} (${remaining(notAfter, now)})`,
      ]),
    );
    for (const [i, { name, spiffeId, notAfter }] of certificates.entries()) {
      const held = spiffeId === `spiffe://${TRUST_DOMAIN}/ns/${NAMESPACE}/sa/${name}` && notAfter > now;
      this.#out.check(held, rows[i] ?? name);
    }
  }

  async #allowedCalls(): Promise<void> {
    this.#out.chapter('Calls that are allowed', 'the applications speak plain HTTP; their sidecars make it mutual TLS');
    await this.#showCall('frontend', 'orders', true, `${NAMESPACE}/orders-callers`);
    await this.#showCall('orders', 'payments', true, `${NAMESPACE}/payments-readers`);
  }

  async #deniedCalls(): Promise<void> {
    this.#out.chapter(
      'Calls that are denied',
      'the sidecar of the one who is called decides, before its application sees a byte',
    );
    await this.#showCall('frontend', 'payments', false, `${NAMESPACE}/payments-not-from-frontend`);
    await this.#showCall('payments', 'orders', false, null);
  }

  /** Makes one call and shows what the callee's access log says of it. `policy`: which must have decided; null: none did. */
  async #showCall(from: WorkloadName, to: WorkloadName, allowed: boolean, policy: string | null): Promise<void> {
    const { app } = this.#mesh.workloads[from];
    const { log } = this.#mesh.workloads[to];
    const { position } = log;
    const result = await app.call(this.#mesh.site.target(from, to), { path: SAMPLE_PATHS[to] });
    const record = await log.find(position, RECORD_TIMEOUT_MS, (line): line is AccessRecord => isCallFrom(line, from));
    const answered = succeeded(result) && result.body.includes(`"service":"${to}"`);
    // Over HTTP a denial is an answer, else the connection is closed without one.
    const expected = answered === allowed && (allowed || result.status === null || result.status === 403);
    this.#out.check(expected, `${arrow(from, to)}${outcomeOf(result)}`);
    const verdict = allowed ? 'allowed' : 'denied';
    const decided = record === null ? 'nothing in the access log' : decisionOf(record);
    this.#out.check(record?.verdict === verdict && record.policy === policy, `${arrow(`  at ${to}`)}${decided}`);
  }

  async #wire(): Promise<void> {
    this.#out.chapter(
      'What a packet capture sees',
      'on the network interface of orders, while frontend sends it a secret',
    );
    if (!this.#mesh.site.redirected) {
      this.#out.remark('not shown: there is no network to capture on, all of this is the loopback interface');
      return;
    }
    const place = this.#mesh.site.workloads.orders;
    const capture = this.#roster.add('capture', this.#mesh.site.spawn(place, CAPTURE, 'system'));
    const observer = new Observer(capture);
    await Promise.race([observer.ready, capture.untilFailure()]);
    const secret = `card-${randomBytes(8).toString('hex')}`;
    const openly = `open-${randomBytes(8).toString('hex')}`;
    const result = await this.#mesh.workloads.frontend.app.call(this.#mesh.site.target('frontend', 'orders'), {
      note: secret,
    });
    // The control of the experiment: what is not encrypted must be seen, or the capture proves nothing.
    await this.#mesh.outsider.call(this.#mesh.site.bypass('orders'), { note: openly });
    await sleep(CAPTURE_SETTLE_MS);
    await capture.stop(CAPTURE_SETTLE_MS);
    const arrived = succeeded(result) && result.body.includes(secret);
    const { bytes, segments, tlsRecords, sample } = observer.observed(PORTS.tunnel);
    this.#out.check(
      arrived && bytes > 0 && !observer.saw(secret),
      `${secret} arrived, but is in none of the ${segments} segments (${bytes} bytes) that crossed the wire`,
    );
    const shown = sample === null ? 'none' : hexLine(sample);
    this.#out.check(tlsRecords['application data'] > 0, `TLS records of application data instead:  ${shown}`);
    this.#out.check(observer.saw(openly), `${openly} is seen: an outsider sent it in plaintext, so the capture works`);
  }

  async #plaintext(): Promise<void> {
    this.#out.chapter('A client without a sidecar', 'mutual-tls.yaml says STRICT: plaintext is refused');
    const { log } = this.#mesh.workloads.orders;
    const { position } = log;
    const result = await this.#mesh.outsider.call(this.#mesh.site.bypass('orders'));
    this.#out.check(
      result.status === null && result.error !== null,
      `${arrow('outsider', 'orders')}${outcomeOf(result)}`,
    );
    const refusal = await log.find<LogLine & Refusal>(position, RECORD_TIMEOUT_MS, isRefusal);
    // Without redirection the only way in from outside is the tunnel's port, where plaintext fails the handshake.
    const how = this.#mesh.site.redirected ? '' : 'no TLS handshake: ';
    const refused = refusal === null ? 'nothing in the log' : `${how}${refusal.reason}`;
    this.#out.check(refusal !== null, `${arrow('  at orders')}${refused}`);
  }

  async #livePolicy(): Promise<void> {
    const file = this.#directory.manifest(POLICY_FILE);
    this.#out.chapter(
      'A rule changes under a live connection',
      `frontend holds a stream from orders; ${POLICY_FILE} is edited on disk`,
    );
    const { app } = this.#mesh.workloads.frontend;
    const target = this.#mesh.site.target('frontend', 'orders');
    const stream = await app.stream(target);
    const before = readFileSync(file, 'utf8');
    const edited = before.replace('sa/frontend"', 'sa/nobody"');
    const savedAt = Date.now();
    this.#directory.writeManifest(POLICY_FILE, edited);
    const late = sleep(SETTLE_TIMEOUT_MS, null, { ref: false });
    const closed = await Promise.race([stream.closed, late]);
    const took = closed === null ? Number.POSITIVE_INFINITY : closed.at - savedAt;
    this.#out.check(
      took <= CUT_WITHIN_MS,
      closed === null
        ? `the stream was still open ${SETTLE_TIMEOUT_MS / 1000} s after the edit`
        : `sa/frontend became sa/nobody: the stream was cut ${took} ms after the file was saved`,
    );
    const refused = await app.call(target);
    this.#out.check(refused.status === null, `${arrow('frontend', 'orders')}${outcomeOf(refused)}`);
    const restoredAt = Date.now();
    this.#directory.writeManifest(POLICY_FILE, before);
    let answeredAt = 0;
    await until('frontend to be allowed again', SETTLE_TIMEOUT_MS, async () => {
      const result = await app.call(target);
      answeredAt = result.at;
      return succeeded(result) || outcomeOf(result);
    });
    this.#out.check(true, `the file as it was: allowed again after ${answeredAt - restoredAt} ms`);
  }

  async #metrics(): Promise<void> {
    this.#out.chapter('Metrics', 'Istio’s names and labels, for Prometheus');
    for (const name of WORKLOAD_NAMES) await this.#showMetrics(this.#mesh.workloads[name]);
    const { site } = this.#mesh;
    const door = site.door(site.controlPlane, PORTS.controlPlaneAdmin);
    const { status, body } = await fetchFrom(door, '/metrics');
    const url = `${site.url(site.controlPlane, PORTS.controlPlaneAdmin)}/metrics`;
    this.#out.check(status === 200 && body.includes('postern_'), `${'control plane'.padEnd(14)}${url}`);
  }

  async #showMetrics({ name, place }: Workload): Promise<void> {
    const { site } = this.#mesh;
    const { status, body } = await fetchFrom(site.door(place, PORTS.metrics), '/metrics');
    const opened = sumOf(body, 'istio_tcp_connections_opened_total');
    const requests = sumOf(body, 'istio_requests_total');
    const url = `${site.url(place, PORTS.metrics)}/metrics`;
    this.#out.check(
      status === 200 && opened + requests > 0,
      `${name.padEnd(14)}${url}   ${opened} TCP connections, ${requests} requests`,
    );
  }
}
