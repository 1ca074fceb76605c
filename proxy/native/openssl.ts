import { bind } from './library.ts';

/**
 * The functions and constants of the OpenSSL inside the node binary (openssl/ssl.h, x509.h, bio.h, err.h of 3.5). Many "functions" of its
 * manual are macros over SSL_CTX_ctrl and SSL_ctrl. Only `tls-context.ts` and `tls-session.ts` use this file.
 */

export const TLS_method = bind<() => number>('uintptr_t TLS_method()');
export const SSL_CTX_new = bind<(method: number) => number>('uintptr_t SSL_CTX_new(uintptr_t)');
export const SSL_CTX_free = bind<(ctx: number) => void>('void SSL_CTX_free(uintptr_t)');
export const SSL_CTX_ctrl = bind<(ctx: number, command: number, number: number, pointer: number) => number>(
  'long SSL_CTX_ctrl(uintptr_t, int, long, uintptr_t)',
);
/** SSL_CTX_set1_groups_list is a macro over SSL_CTX_ctrl with a C string. */
export const SSL_CTX_set_groups_list = bind<(ctx: number, command: number, number: number, list: string) => number>(
  'long SSL_CTX_ctrl(uintptr_t, int, long, str)',
);
export const SSL_CTX_set_ciphersuites = bind<(ctx: number, list: string) => number>(
  'int SSL_CTX_set_ciphersuites(uintptr_t, str)',
);
export const SSL_CTX_set_options = bind<(ctx: number, options: bigint) => bigint>(
  'uint64_t SSL_CTX_set_options(uintptr_t, uint64_t)',
);
export const SSL_CTX_set_default_read_buffer_len = bind<(ctx: number, length: number) => void>(
  'void SSL_CTX_set_default_read_buffer_len(uintptr_t, size_t)',
);
export const SSL_CTX_use_certificate = bind<(ctx: number, x509: number) => number>(
  'int SSL_CTX_use_certificate(uintptr_t, uintptr_t)',
);
export const SSL_CTX_use_PrivateKey = bind<(ctx: number, key: number) => number>(
  'int SSL_CTX_use_PrivateKey(uintptr_t, uintptr_t)',
);
export const SSL_CTX_check_private_key = bind<(ctx: number) => number>('int SSL_CTX_check_private_key(uintptr_t)');
export const SSL_CTX_get_cert_store = bind<(ctx: number) => number>('uintptr_t SSL_CTX_get_cert_store(uintptr_t)');
export const SSL_CTX_set_verify = bind<(ctx: number, mode: number, callback: number) => void>(
  'void SSL_CTX_set_verify(uintptr_t, int, uintptr_t)',
);
export const SSL_CTX_set_verify_depth = bind<(ctx: number, depth: number) => void>(
  'void SSL_CTX_set_verify_depth(uintptr_t, int)',
);
export const SSL_CTX_set_session_id_context = bind<(ctx: number, id: Uint8Array, length: number) => number>(
  'int SSL_CTX_set_session_id_context(uintptr_t, void *, uint)',
);
export const SSL_CTX_set_timeout = bind<(ctx: number, seconds: number) => number>(
  'long SSL_CTX_set_timeout(uintptr_t, long)',
);
export const SSL_CTX_set_num_tickets = bind<(ctx: number, count: number) => number>(
  'int SSL_CTX_set_num_tickets(uintptr_t, size_t)',
);
export const SSL_CTX_set_alpn_protos = bind<(ctx: number, protocols: Uint8Array, length: number) => number>(
  'int SSL_CTX_set_alpn_protos(uintptr_t, void *, uint)',
);
export const SSL_CTX_set_alpn_select_cb = bind<(ctx: number, callback: bigint, argument: number) => void>(
  'void SSL_CTX_set_alpn_select_cb(uintptr_t, void *, uintptr_t)',
);
export const X509_STORE_add_cert = bind<(store: number, x509: number) => number>(
  'int X509_STORE_add_cert(uintptr_t, uintptr_t)',
);
export const BIO_new_mem_buf = bind<(bytes: Uint8Array, length: number) => number>(
  'uintptr_t BIO_new_mem_buf(void *, int)',
);
export const BIO_free = bind<(bio: number) => number>('int BIO_free(uintptr_t)');
export const PEM_read_bio_X509 = bind<(bio: number, out: number, callback: number, argument: number) => number>(
  'uintptr_t PEM_read_bio_X509(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
);
export const PEM_read_bio_PrivateKey = bind<(bio: number, out: number, callback: number, argument: number) => number>(
  'uintptr_t PEM_read_bio_PrivateKey(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
);
export const X509_free = bind<(x509: number) => void>('void X509_free(uintptr_t)');
export const EVP_PKEY_free = bind<(key: number) => void>('void EVP_PKEY_free(uintptr_t)');
export const i2d_X509 = bind<(x509: number, out: number) => number>('int i2d_X509(uintptr_t, uintptr_t)');

export const SSL_new = bind<(ctx: number) => number>('uintptr_t SSL_new(uintptr_t)');
export const SSL_free = bind<(ssl: number) => void>('void SSL_free(uintptr_t)');
export const SSL_set_fd = bind<(ssl: number, fd: number) => number>('int SSL_set_fd(uintptr_t, int)');
export const SSL_set_accept_state = bind<(ssl: number) => void>('void SSL_set_accept_state(uintptr_t)');
export const SSL_set_connect_state = bind<(ssl: number) => void>('void SSL_set_connect_state(uintptr_t)');
export const SSL_do_handshake = bind<(ssl: number) => number>('int SSL_do_handshake(uintptr_t)');
export const SSL_get_error = bind<(ssl: number, result: number) => number>('int SSL_get_error(uintptr_t, int)');
export const SSL_read = bind<(ssl: number, buffer: number, length: number) => number>(
  'int SSL_read(uintptr_t, uintptr_t, int)',
);
export const SSL_write = bind<(ssl: number, buffer: number, length: number) => number>(
  'int SSL_write(uintptr_t, uintptr_t, int)',
);
export const SSL_has_pending = bind<(ssl: number) => number>('int SSL_has_pending(uintptr_t)');
export const SSL_set_info_callback = bind<(ssl: number, callback: bigint) => void>(
  'void SSL_set_info_callback(uintptr_t, void *)',
);
export const SSL_set_shutdown = bind<(ssl: number, mode: number) => void>('void SSL_set_shutdown(uintptr_t, int)');
export const SSL_shutdown = bind<(ssl: number) => number>('int SSL_shutdown(uintptr_t)');
export const SSL_get_verify_result = bind<(ssl: number) => number>('long SSL_get_verify_result(uintptr_t)');
export const SSL_get1_peer_certificate = bind<(ssl: number) => number>(
  'uintptr_t SSL_get1_peer_certificate(uintptr_t)',
);
export const SSL_get0_verified_chain = bind<(ssl: number) => number>('uintptr_t SSL_get0_verified_chain(uintptr_t)');
export const OPENSSL_sk_num = bind<(stack: number) => number>('int OPENSSL_sk_num(uintptr_t)');
export const OPENSSL_sk_value = bind<(stack: number, index: number) => number>(
  'uintptr_t OPENSSL_sk_value(uintptr_t, int)',
);
export const SSL_get0_alpn_selected = bind<(ssl: number, out: number, length: number) => void>(
  'void SSL_get0_alpn_selected(uintptr_t, uintptr_t, uintptr_t)',
);
export const SSL_session_reused = bind<(ssl: number) => number>('int SSL_session_reused(uintptr_t)');
export const SSL_get1_session = bind<(ssl: number) => number>('uintptr_t SSL_get1_session(uintptr_t)');
export const SSL_set_session = bind<(ssl: number, session: number) => number>(
  'int SSL_set_session(uintptr_t, uintptr_t)',
);
export const SSL_SESSION_free = bind<(session: number) => void>('void SSL_SESSION_free(uintptr_t)');
export const SSL_SESSION_is_resumable = bind<(session: number) => number>('int SSL_SESSION_is_resumable(uintptr_t)');
export const SSL_get_version = bind<(ssl: number) => string>('str SSL_get_version(uintptr_t)');
export const SSL_get0_group_name = bind<(ssl: number) => string | null>('str SSL_get0_group_name(uintptr_t)');
export const SSL_CIPHER_get_name = bind<(cipher: number) => string>('str SSL_CIPHER_get_name(uintptr_t)');
export const SSL_get_current_cipher = bind<(ssl: number) => number>('uintptr_t SSL_get_current_cipher(uintptr_t)');
export const ERR_get_error = bind<() => number | bigint>('ulong ERR_get_error()');
export const ERR_clear_error = bind<() => void>('void ERR_clear_error()');
export const ERR_reason_error_string = bind<(code: number | bigint) => string | null>(
  'str ERR_reason_error_string(ulong)',
);
export const X509_verify_cert_error_string = bind<(code: number) => string>('str X509_verify_cert_error_string(long)');

/** Of an info callback: a step of the state machine, such as a handshake message that came. */
export const SSL_CB_LOOP = 1;
export const SSL_RECEIVED_SHUTDOWN = 2;
export const SSL_ERROR_SSL = 1;
export const SSL_ERROR_WANT_READ = 2;
export const SSL_ERROR_WANT_WRITE = 3;
export const SSL_ERROR_SYSCALL = 5;
export const SSL_ERROR_ZERO_RETURN = 6;

export const SSL_VERIFY_PEER = 1;
export const SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;
export const SSL_CTRL_MODE = 33;
export const SSL_CTRL_SET_READ_AHEAD = 41;
export const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
export const SSL_CTRL_SET_GROUPS_LIST = 92;
export const SSL_CTRL_CHAIN_CERT = 89;
export const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
export const SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
export const TLS1_3_VERSION = 0x304;
export const SSL_MODE_ENABLE_PARTIAL_WRITE = 1;
export const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2;
export const SSL_MODE_RELEASE_BUFFERS = 0x10;
export const SSL_SESS_CACHE_OFF = 0;
export const SSL_TLSEXT_ERR_OK = 0;
export const SSL_TLSEXT_ERR_ALERT_FATAL = 2;
/** OpenSSL 3.5 compresses certificates with brotli on every handshake: over half of the client's handshake CPU. These two turn it off. */
export const SSL_OP_NO_TX_CERTIFICATE_COMPRESSION = 1n << 32n;
export const SSL_OP_NO_RX_CERTIFICATE_COMPRESSION = 1n << 33n;
export const SSL_OP_NO_RENEGOTIATION = 1n << 30n;
