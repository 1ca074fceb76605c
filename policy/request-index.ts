import { AffixIndex } from './affix-index.ts';
import { append, appendTo, type Bucket, type Ranked, take } from './buckets.ts';
import { CidrIndex } from './cidr-index.ts';
import type { Facts } from './facts.ts';
import type { RequestKey } from './index-key.ts';
import type { RequestFacts } from './request-facts.ts';

/** Rules by a text of requests: as a whole, by how it starts, by how it ends. Each part exists only where a rule is in it. */
class TextIndex {
  #exact: Map<string, Ranked[]> | null = null;
  #prefix: AffixIndex<Ranked> | null = null;
  #suffix: AffixIndex<Ranked> | null = null;

  file(form: 'exact' | 'prefix' | 'suffix', text: string, ranked: Ranked): void {
    if (form === 'exact') {
      this.#exact ??= new Map();
      append(this.#exact, text, ranked);
    } else if (form === 'prefix') {
      this.#prefix ??= new AffixIndex('prefix');
      appendTo(this.#prefix.bucket(text), ranked);
    } else {
      this.#suffix ??= new AffixIndex('suffix');
      appendTo(this.#suffix.bucket(text), ranked);
    }
  }

  collect(text: string, into: Bucket[]): void {
    if (this.#exact !== null) take(into, this.#exact, text);
    this.#prefix?.collect(text, into);
    this.#suffix?.collect(text, into);
  }
}

/** Rules by the values of something that has a name and any number of texts: a header, a claim. */
interface NamedIndex {
  readonly texts: (request: RequestFacts) => readonly string[];
  readonly byValue: Map<string, Ranked[]>;
}

/** The rules that are found by what they ask of a request. A fact that no rule is filed under is never looked at. */
export class RequestIndex {
  #path: TextIndex | null = null;
  #host: TextIndex | null = null;
  #method: Map<string, Ranked[]> | null = null;
  #issuer: Map<string, Ranked[]> | null = null;
  #subject: Map<string, Ranked[]> | null = null;
  #remoteAddress: CidrIndex<Ranked> | null = null;
  /** By `header <name>` and `claim <path>`. Each is asked for once a look-up: rules name few of them. */
  readonly #named = new Map<string, NamedIndex>();
  /** Deciding is synchronous: one list serves every look-up. */
  readonly #found: Bucket[] = [];

  file(key: RequestKey, ranked: Ranked): void {
    switch (key.kind) {
      case 'path':
        this.#path ??= new TextIndex();
        this.#path.file(key.form, key.value, ranked);
        return;
      case 'host':
        this.#host ??= new TextIndex();
        this.#host.file(key.form, key.value, ranked);
        return;
      case 'method':
        this.#method ??= new Map();
        append(this.#method, key.value, ranked);
        return;
      case 'issuer':
        this.#issuer ??= new Map();
        append(this.#issuer, key.value, ranked);
        return;
      case 'subject':
        this.#subject ??= new Map();
        append(this.#subject, key.value, ranked);
        return;
      case 'header': {
        const { name } = key;
        this.#fileNamed(`header ${name}`, (request) => request.header(name), key.value, ranked);
        return;
      }
      case 'claim': {
        const { path } = key;
        this.#fileNamed(`claim ${JSON.stringify(path)}`, (request) => request.claim(path), key.value, ranked);
        return;
      }
      case 'remoteAddress':
        this.#remoteAddress ??= new CidrIndex();
        this.#remoteAddress.add(key.value, ranked);
    }
  }

  #fileNamed(name: string, texts: NamedIndex['texts'], value: string, ranked: Ranked): void {
    const index = this.#named.get(name) ?? { texts, byValue: new Map() };
    this.#named.set(name, index);
    append(index.byValue, value, ranked);
  }

  /** The rules that a request leads to; valid until the next call. */
  find(facts: Facts): readonly Bucket[] {
    const found = this.#found;
    found.length = 0;
    const { request } = facts;
    if (request === null) return found;
    this.#path?.collect(request.path, found);
    this.#host?.collect(request.host, found);
    if (this.#method !== null) take(found, this.#method, request.method);
    if (this.#issuer !== null && request.issuer !== null) take(found, this.#issuer, request.issuer);
    if (this.#subject !== null && request.subject !== null) take(found, this.#subject, request.subject);
    if (this.#remoteAddress !== null && facts.remoteAddress !== null) {
      this.#remoteAddress.collect(facts.remoteAddress, found);
    }
    if (this.#named.size > 0) this.#collectNamed(request, found);
    return found;
  }

  #collectNamed(request: RequestFacts, found: Bucket[]): void {
    for (const { texts, byValue } of this.#named.values()) {
      for (const text of texts(request)) take(found, byValue, text);
    }
  }
}
