/** What a TLS connection to the API server is made with. The same object means the same connection. */
export interface TlsMaterial {
  /** PEM; the server's certificate must chain to one of these. Null: to one of node's own roots. */
  readonly ca: string | null;
  /** Name that the server's certificate must bear; null: that of its address. */
  readonly serverName: string | null;
  /** PEM of the client certificate and its key; null where there is none. */
  readonly client: { readonly certificate: string; readonly key: string } | null;
}

/** Who we are to the API server for one request. NEVER logged: it holds secrets. */
export interface Access {
  readonly tls: TlsMaterial;
  /** Bearer token. */
  readonly token: string | null;
}

/** How the API server is reached, and who we are to it. */
export interface Connection {
  /** `https://10.96.0.1:443`, with the path below which the API is served where it has one; no slash at the end. */
  readonly server: string;
  /** The pod's namespace, or the context's; null where none is named. */
  readonly namespace: string | null;
  /** Asked for each request; answers from memory where it can. @throws PosternError ERR_KUBERNETES_CREDENTIALS */
  access(signal: AbortSignal): Promise<Access>;
  /** The server did not accept this: whatever it was read from is read anew. */
  refused(access: Access): void;
}
