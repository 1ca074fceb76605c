import { field } from '../json.ts';
import type { KeySet } from '../jwt/key-set.ts';
import { selects } from '../selection.ts';
import type { JsonObject, PolicyMesh, PolicyWorkload } from '../types.ts';
import type { JwksSource } from './jwks-source.ts';
import { type JwtRule, readJwtRules } from './jwt-rule.ts';
import type { TokenLocations } from './locations.ts';
import { foldedName } from './outputs.ts';

/** A rule with its keys. */
export interface TokenRule extends JwtRule {
  /** Null where there are none: every token is refused. */
  readonly keySet: KeySet | null;
  /** Index into the locations of `TokenRules`. */
  readonly place: number;
}

/** What one workload asks of its callers' tokens. Immutable. */
export interface TokenRules {
  /** In the order in which they are asked: by issuer. */
  readonly rules: readonly TokenRule[];
  /** Rules that look in the same places share one entry, so that they are looked through once. */
  readonly places: readonly TokenLocations[];
  /** Every header that some rule may set, folded: whoever asks cannot set it himself. */
  readonly outputHeaders: ReadonlySet<string>;
  /** Some rule tells the application the payload. */
  readonly asksPayload: boolean;
}

/**
 * The rules of the RequestAuthentications among `objects` that select the workload, all of them together: none overrides another (Istio's
 * semantics, section 3). Objects must have passed `validateObject`. @throws PosternError ERR_POLICY_MALFORMED where one plainly has not.
 */
export function compileTokenRules(
  objects: readonly JsonObject[],
  workload: PolicyWorkload,
  mesh: Pick<PolicyMesh, 'rootNamespace'>,
  keySetOf: (source: JwksSource) => KeySet | null,
): TokenRules {
  const selected = objects
    .filter((one) => field(one, 'kind') === 'RequestAuthentication' && selects(one, workload, mesh.rootNamespace))
    .flatMap(readJwtRules)
    .toSorted((a, b) => compareText(a.issuer ?? '', b.issuer ?? ''));
  const places = new Map<string, number>();
  const locations: TokenLocations[] = [];
  const rules = selected.map((rule) => {
    const key = JSON.stringify(rule.locations);
    const place = places.get(key) ?? locations.push(rule.locations) - 1;
    places.set(key, place);
    return { ...rule, place, keySet: keySetOf(rule.keys) };
  });
  const outputs = rules.flatMap((rule) => [
    rule.outputs.payload ?? [],
    rule.outputs.claims.map(({ header }) => header),
  ]);
  return {
    rules,
    places: locations,
    outputHeaders: new Set(outputs.flat().map(foldedName)),
    asksPayload: rules.some((rule) => rule.outputs.payload !== null),
  };
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
