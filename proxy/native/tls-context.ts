import { PosternError } from '../../mesh/errors.ts';
import { callback } from './library.ts';
import { readBytes, storeByte, storePointer } from './memory.ts';
import * as ssl from './openssl.ts';

/** What a TLS endpoint of the mesh shows and trusts. */
export interface TlsMaterial {
  /** PEM: leaf, then intermediates. */
  readonly chain: string;
  /** PKCS #8 PEM; stays in memory. */
  readonly privateKey: string;
  /** PEM, one certificate an entry. */
  readonly roots: readonly string[];
}

/** Seconds a session ticket may be used: well under the shortest certificate's life, and tickets die with their context anyway. */
const TICKET_SECONDS = 600;
const GROUPS = 'X25519MLKEM768:X25519';
/** The server follows the client's order. AES-128 is as far from being broken as AES-256 and takes a third less of the CPU of bulk flows. */
const CIPHERSUITES = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
/** Leaf, intermediate, root and one spare: a longer chain is an attack on our CPU. */
const MAX_CHAIN_DEPTH = 3;
const READ_AHEAD_BYTES = 65_536;

/** The oldest error OpenSSL queued, in words; clears the queue (a stale entry would mislead the next SSL_get_error). */
export function takeTlsError(): string {
  const code = ssl.ERR_get_error();
  const reason = Number(code) === 0 ? null : ssl.ERR_reason_error_string(code);
  ssl.ERR_clear_error();
  return reason ?? 'unknown TLS error';
}

function withPem<T>(pem: string, use: (bio: number) => T): T {
  const bytes = Buffer.from(pem);
  const bio = ssl.BIO_new_mem_buf(bytes, bytes.length);
  if (bio === 0) throw new PosternError('ERR_TLS_MATERIAL', 'out of memory while reading PEM');
  try {
    return use(bio);
  } finally {
    ssl.BIO_free(bio);
    bytes.fill(0);
  }
}

function readCertificates(pem: string, take: (x509: number) => boolean, what: string): void {
  withPem(pem, (bio) => {
    let count = 0;
    for (let x509 = ssl.PEM_read_bio_X509(bio, 0, 0, 0); x509 !== 0; x509 = ssl.PEM_read_bio_X509(bio, 0, 0, 0)) {
      const taken = take(x509);
      ssl.X509_free(x509);
      if (!taken) throw new PosternError('ERR_TLS_MATERIAL', `OpenSSL refuses ${what}: ${takeTlsError()}`);
      count++;
    }
    ssl.ERR_clear_error(); // the end of the PEM is reported as an error
    if (count === 0) throw new PosternError('ERR_TLS_MATERIAL', `no certificate in ${what}`);
  });
}

const selectors = new Map<string, bigint>();

/** The ALPN callback that takes the first of ours that the client offers, and refuses the handshake where there is none (RFC 7301, 3.2). */
function alpnSelector(protocols: readonly string[]): bigint {
  const key = protocols.join(',');
  const known = selectors.get(key);
  if (known !== undefined) return known;
  const made = callback(
    `int postern_alpn_${selectors.size}(uintptr_t ssl, uintptr_t out, uintptr_t outlen, uintptr_t list, uint length, uintptr_t argument)`,
    (_ssl = 0, out = 0, outLength = 0, list = 0, length = 0) => {
      const offered = readBytes(list, length);
      for (const wanted of protocols) {
        for (let at = 0; at < length; at += 1 + offered.readUInt8(at)) {
          const size = offered.readUInt8(at);
          if (at + 1 + size > length) break;
          if (size !== wanted.length || offered.toString('latin1', at + 1, at + 1 + size) !== wanted) continue;
          storePointer(out, list + at + 1);
          storeByte(outLength, size);
          return ssl.SSL_TLSEXT_ERR_OK;
        }
      }
      return ssl.SSL_TLSEXT_ERR_ALERT_FATAL;
    },
  );
  selectors.set(key, made);
  return made;
}

/** RFC 7301, 3.1: each name behind its length. */
function encodeAlpn(protocols: readonly string[]): Buffer {
  return Buffer.concat(protocols.map((name) => Buffer.concat([Buffer.of(name.length), Buffer.from(name, 'latin1')])));
}

/**
 * An SSL_CTX: TLS 1.3 only, certificates required on both sides, the mesh's roots the only trust. Immutable: another certificate, trust bundle
 * or revocation list means another context, and with it the old one's session tickets die. Sessions hold a reference of their own.
 */
export class TlsContext {
  readonly pointer: number;
  #freed = false;

  /** @throws PosternError ERR_TLS_MATERIAL where OpenSSL cannot use the certificate, the key or a root. */
  constructor(role: 'client' | 'server', material: TlsMaterial, alpn: readonly string[]) {
    const ctx = ssl.SSL_CTX_new(ssl.TLS_method());
    if (ctx === 0) throw new PosternError('ERR_TLS_MATERIAL', `SSL_CTX_new: ${takeTlsError()}`);
    this.pointer = ctx;
    try {
      this.#limit();
      this.#use(material);
      if (role === 'server') ssl.SSL_CTX_set_alpn_select_cb(ctx, alpnSelector(alpn), 0);
      else {
        const encoded = encodeAlpn(alpn);
        ssl.SSL_CTX_set_alpn_protos(ctx, encoded, encoded.length);
      }
    } catch (error) {
      this.free();
      throw error;
    }
  }

  #limit(): void {
    const ctx = this.pointer;
    ssl.SSL_CTX_ctrl(ctx, ssl.SSL_CTRL_SET_MIN_PROTO_VERSION, ssl.TLS1_3_VERSION, 0);
    ssl.SSL_CTX_ctrl(ctx, ssl.SSL_CTRL_SET_MAX_PROTO_VERSION, ssl.TLS1_3_VERSION, 0);
    // Buffers of idle connections are released: 64 KiB each were 64 MB at 1,000 connections.
    const mode =
      ssl.SSL_MODE_ENABLE_PARTIAL_WRITE | ssl.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | ssl.SSL_MODE_RELEASE_BUFFERS;
    ssl.SSL_CTX_ctrl(ctx, ssl.SSL_CTRL_MODE, mode, 0);
    // Without read-ahead OpenSSL issues two read(2) a record.
    ssl.SSL_CTX_ctrl(ctx, ssl.SSL_CTRL_SET_READ_AHEAD, 1, 0);
    ssl.SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_BYTES);
    ssl.SSL_CTX_set_options(
      ctx,
      ssl.SSL_OP_NO_TX_CERTIFICATE_COMPRESSION | ssl.SSL_OP_NO_RX_CERTIFICATE_COMPRESSION | ssl.SSL_OP_NO_RENEGOTIATION,
    );
    if (ssl.SSL_CTX_set_groups_list(ctx, ssl.SSL_CTRL_SET_GROUPS_LIST, 0, GROUPS) !== 1) {
      throw new PosternError('ERR_TLS_MATERIAL', `this OpenSSL lacks the groups ${GROUPS}: ${takeTlsError()}`);
    }
    if (ssl.SSL_CTX_set_ciphersuites(ctx, CIPHERSUITES) !== 1) {
      throw new PosternError('ERR_TLS_MATERIAL', `this OpenSSL lacks the cipher suites of TLS 1.3: ${takeTlsError()}`);
    }
    ssl.SSL_CTX_set_verify(ctx, ssl.SSL_VERIFY_PEER | ssl.SSL_VERIFY_FAIL_IF_NO_PEER_CERT, 0);
    ssl.SSL_CTX_set_verify_depth(ctx, MAX_CHAIN_DEPTH);
    const id = Buffer.from('postern');
    ssl.SSL_CTX_set_session_id_context(ctx, id, id.length);
    ssl.SSL_CTX_set_timeout(ctx, TICKET_SECONDS);
    // Tickets are stateless; a server-side cache of sessions would only hold memory.
    ssl.SSL_CTX_ctrl(ctx, ssl.SSL_CTRL_SET_SESS_CACHE_MODE, ssl.SSL_SESS_CACHE_OFF, 0);
    ssl.SSL_CTX_set_num_tickets(ctx, 1);
  }

  #use(material: TlsMaterial): void {
    const ctx = this.pointer;
    let leaf = true;
    readCertificates(
      material.chain,
      (x509) => {
        if (!leaf) return ssl.SSL_CTX_ctrl(ctx, ssl.SSL_CTRL_CHAIN_CERT, 1, x509) === 1;
        leaf = false;
        return ssl.SSL_CTX_use_certificate(ctx, x509) === 1;
      },
      'the certificate chain',
    );
    withPem(material.privateKey, (bio) => {
      const key = ssl.PEM_read_bio_PrivateKey(bio, 0, 0, 0);
      if (key === 0)
        throw new PosternError('ERR_TLS_MATERIAL', `OpenSSL cannot read the private key: ${takeTlsError()}`);
      const used = ssl.SSL_CTX_use_PrivateKey(ctx, key);
      ssl.EVP_PKEY_free(key);
      if (used !== 1 || ssl.SSL_CTX_check_private_key(ctx) !== 1) {
        throw new PosternError('ERR_TLS_MATERIAL', `the private key is not that of the certificate: ${takeTlsError()}`);
      }
    });
    const store = ssl.SSL_CTX_get_cert_store(ctx);
    for (const root of material.roots) {
      readCertificates(root, (x509) => ssl.X509_STORE_add_cert(store, x509) === 1, 'the trust bundle');
    }
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    ssl.SSL_CTX_free(this.pointer);
  }
}
