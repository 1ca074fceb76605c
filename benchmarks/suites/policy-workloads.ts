import type { Claims, ConnectionAttributes, JsonObject, RequestAttributes } from '../../policy/types.ts';

/** Policies of which few concern the caller, whatever their number, and the requests that are decided by them. */
export interface PolicyWorkload {
  readonly label: string;
  /** The policies: `rules` in all, as many as `SIZES` says. */
  policies(rules: number): readonly JsonObject[];
  readonly claims: Claims;
  /** One of the requests of a real caller; nothing of it is shared with the one before, as on the wire. */
  request(index: number): RequestAttributes;
}

export const CALLER: ConnectionAttributes = {
  sourcePrincipal: 'cluster.local/ns/web/sa/frontend',
  sourceIp: '10.1.0.5',
  destinationIp: '10.1.0.9',
  destinationPort: 8080,
  sni: 'outbound_.8080_._.orders.shop.svc.cluster.local',
};

const RULES_PER_POLICY = 10;

/** Every other policy denies, the rest allow, as `rule` says; what concerns the caller comes on top, twice. */
function policies(rules: number, own: JsonObject, rule: (index: number) => JsonObject): readonly JsonObject[] {
  const others = Array.from({ length: rules - 2 }, (_, index) => rule(index));
  const chunks = Array.from({ length: Math.ceil(others.length / RULES_PER_POLICY) }, (_, index) =>
    others.slice(index * RULES_PER_POLICY, (index + 1) * RULES_PER_POLICY),
  );
  return [
    ...chunks.map((chunk, index) => policy(`other-${index}`, index % 2 === 0 ? 'ALLOW' : 'DENY', chunk)),
    policy('own', 'ALLOW', [own]),
    policy('guard', 'DENY', [{ to: [{ operation: { paths: ['/internal/*'] } }] }]),
  ];
}

function policy(name: string, action: 'ALLOW' | 'DENY', rules: readonly JsonObject[]): JsonObject {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { action, rules },
  };
}

const HEADERS: ReadonlyMap<string, readonly string[]> = new Map([
  ['user-agent', ['curl/8.5.0']],
  ['x-team', ['web']],
]);
const NO_LINES: readonly string[] = [];

/** A string that nobody has hashed or compared before. */
function fresh(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

function request(path: string): RequestAttributes {
  return {
    method: fresh('GET'),
    path: fresh(path),
    query: '',
    host: fresh('orders.shop.svc.cluster.local:8080'),
    header: (name) => HEADERS.get(name) ?? NO_LINES,
  };
}

/** Most are allowed, one of eight is denied by a rule, one by none. */
function path(index: number): string {
  if (index % 8 === 3) return `/internal/${index}`;
  return index % 8 === 5 ? `/unknown/${index}` : `/orders/${index}/items`;
}

const from = (source: JsonObject): JsonObject => ({ from: [{ source }] });
const to = (operation: JsonObject): JsonObject => ({ to: [{ operation }] });
const OWN_PATH = to({ methods: ['GET'], paths: ['/orders/*'] });

export const WORKLOADS: { readonly [name: string]: PolicyWorkload } = {
  by_caller: {
    label: 'rules for other callers',
    policies: (rules) =>
      policies(rules, { ...from({ principals: ['cluster.local/ns/web/sa/frontend'] }), ...OWN_PATH }, (index) => ({
        ...from(
          index % 3 === 0
            ? { principals: [`cluster.local/ns/team-${index}/sa/app`] }
            : index % 3 === 1
              ? { namespaces: [`team-${index}`] }
              : { serviceAccounts: [`team-${index}/app`] },
        ),
        ...OWN_PATH,
      })),
    claims: null,
    request: (index) => request(path(index)),
  },
  by_path: {
    label: 'rules for other paths, of any caller',
    policies: (rules) =>
      policies(rules, OWN_PATH, (index) =>
        to(
          index % 3 === 0
            ? { methods: ['GET'], paths: [`/service-${index}/*`] }
            : index % 3 === 1
              ? { methods: ['GET', 'POST'], paths: [`/orders/other-${index}`] }
              : { paths: [`/files-${index}/{*}/versions/{**}`] },
        ),
      ),
    claims: null,
    request: (index) => request(path(index)),
  },
  by_host: {
    label: 'rules for other hosts',
    policies: (rules) =>
      policies(rules, to({ hosts: ['orders.shop.svc.cluster.local', 'orders.shop.svc.cluster.local:*'] }), (index) =>
        to({ hosts: [`tenant-${index}.example.com`, `tenant-${index}.example.com:*`], methods: ['GET'] }),
      ),
    claims: null,
    request: (index) => request(path(index)),
  },
  by_user: {
    label: 'rules for other users',
    policies: (rules) =>
      policies(
        rules,
        {
          ...from({ requestPrincipals: ['https://idp.example/alice'] }),
          when: [{ key: 'request.auth.claims[scope]', values: ['orders'] }],
        },
        (index) => from({ requestPrincipals: [`https://idp.example/user-${index}`] }),
      ),
    claims: { iss: 'https://idp.example', sub: 'alice', scope: 'profile orders' },
    request: (index) => request(path(index)),
  },
};
