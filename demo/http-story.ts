import { outcomeOf } from './app-client.ts';
import type { Ask } from './app-protocol.ts';
import { type DemoDirectory, USERS_FILE } from './directory.ts';
import { fetchFrom, until } from './http.ts';
import type { Mesh } from './mesh.ts';
import { quantileBound, sumsBy } from './prometheus.ts';
import { type AccessRecord, decisionOf, isAccess, isCallFrom } from './sidecar-log.ts';
import { arrow, type Terminal } from './terminal.ts';
import { IdentityProvider, ISSUER } from './users.ts';
import { NAMESPACE, PORTS } from './workloads.ts';

const RECORD_TIMEOUT_MS = 3000;
const SETTLE_TIMEOUT_MS = 10_000;
const REPORTER = 'reporter="destination"';

/** What a request must come to. */
interface Expected {
  readonly status: number;
  /** `<namespace>/<name>` of the policy that decides; null: none. */
  readonly policy: string | null;
}

/** The part of the story in which payments is called over HTTP: a decision for each request. */
export class HttpStory {
  readonly #mesh: Mesh;
  readonly #directory: DemoDirectory;
  readonly #out: Terminal;

  constructor(mesh: Mesh, directory: DemoDirectory, out: Terminal) {
    this.#mesh = mesh;
    this.#directory = directory;
    this.#out = out;
  }

  async tell(): Promise<void> {
    await this.#requests();
    await this.#users();
    await this.#goldenMetrics();
  }

  async #requests(): Promise<void> {
    this.#out.chapter('A decision for each request', 'payments speaks HTTP, so its policies name methods and paths');
    const readers = `${NAMESPACE}/payments-readers`;
    await this.#show({ path: '/payments/7' }, { status: 200, policy: readers });
    await this.#show({ method: 'DELETE', path: '/payments/7' }, { status: 403, policy: null });
    await this.#show(
      { path: '/payments/../%61dmin/keys' },
      { status: 403, policy: `${NAMESPACE}/payments-no-admin` },
      'however it is written: /admin/keys',
    );
  }

  async #users(): Promise<void> {
    this.#out.chapter('Users', `refunds need a token of ${ISSUER}: ${USERS_FILE} says how it is verified`);
    const provider = new IdentityProvider();
    this.#directory.writeManifest(USERS_FILE, provider.manifest());
    const refund = { method: 'POST', path: '/refunds' };
    const forged = { ...refund, token: new IdentityProvider().token('mallory') };
    const { app } = this.#mesh.workloads.orders;
    const { log } = this.#mesh.workloads.payments;
    const { position } = log;
    const target = this.#mesh.site.target('orders', 'payments');
    // A token is not looked at before the manifest has arrived.
    await until('the RequestAuthentication to be in force', SETTLE_TIMEOUT_MS, async () => {
      const result = await app.call(target, forged);
      return result.status === 401 || outcomeOf(result);
    });
    // What comes into the log from here on belongs to the calls below.
    await log.find(position, RECORD_TIMEOUT_MS, (line): line is AccessRecord => isAccess(line) && line.status === 401);
    await this.#show(refund, { status: 403, policy: null }, 'without a token');
    await this.#show(forged, { status: 401, policy: null }, 'signed by somebody else');
    const alice = { ...refund, token: provider.token('alice') };
    const record = await this.#show(alice, { status: 200, policy: `${NAMESPACE}/payments-refunds` }, 'by alice');
    const user = record?.userPrincipal ?? null;
    this.#out.check(user === `${ISSUER}/alice`, `${arrow('  at payments')}the user was ${user ?? 'not told'}`);
  }

  /** Makes one call from orders to payments and shows what came of it and why. */
  async #show(ask: Partial<Ask>, { status, policy }: Expected, remark = ''): Promise<AccessRecord | null> {
    const { log } = this.#mesh.workloads.payments;
    const { position } = log;
    const result = await this.#mesh.workloads.orders.app.call(this.#mesh.site.target('orders', 'payments'), ask);
    const record = await log.find(position, RECORD_TIMEOUT_MS, (line): line is AccessRecord =>
      isCallFrom(line, 'orders'),
    );
    const what = `${ask.method ?? 'GET'} ${ask.path}`.padEnd(36);
    const note = remark === '' ? '' : `  ${this.#out.style('dim', remark)}`;
    this.#out.check(result.status === status, `${arrow('orders', 'payments')}${what}${outcomeOf(result)}${note}`);
    const decided = record === null ? 'nothing in the access log' : decisionOf(record);
    const agrees = record?.status === status && (status === 401 || record.policy === policy);
    this.#out.check(agrees, `${arrow('  at payments')}${decided}`);
    return record;
  }

  async #goldenMetrics(): Promise<void> {
    this.#out.chapter('Golden metrics', 'what payments was asked, as any dashboard for Istio shows it');
    const { site, workloads } = this.#mesh;
    const { body } = await fetchFrom(site.door(workloads.payments.place, PORTS.metrics), '/metrics');
    const byCode = sumsBy(body, 'istio_requests_total', 'response_code', REPORTER);
    const counts = [...byCode].sort().map(([code, count]) => `${count} × ${code}`);
    const expected = ['200', '401', '403'].every((code) => (byCode.get(code) ?? 0) > 0);
    this.#out.check(expected, `requests by response code    ${counts.join('   ')}`);
    const duration = 'istio_request_duration_milliseconds';
    const [median, slowest] = [0.5, 0.99].map((q) => quantileBound(body, duration, q, REPORTER));
    const known = median !== null && slowest !== null;
    this.#out.check(known, `duration                     p50 ≤ ${median} ms   p99 ≤ ${slowest} ms`);
  }
}
