import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as http2 from 'node:http2';
import * as grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TcpAddress } from '../support/apps.ts';
import { eventually } from '../support/eventually.ts';
import { type HttpApp, http2App, readAll } from '../support/http-apps.ts';
import { Mesh, policyManifest, serviceManifest } from '../support/mesh.ts';

const ORDERS = 'orders.shop:8080';
const ECHO = 'echo.shop:9090';
const BIG = randomBytes(4 * 1024 * 1024);
const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

let app: HttpApp;
let grpcServer: grpc.Server;
let mesh: Mesh;
const at = (service: string, caller = 'frontend'): TcpAddress => mesh.workload(caller).upstream(service);

function answer(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void {
  stream.on('error', () => undefined);
  const path = headers[':path'];
  if (path === '/big') {
    stream.respond({ ':status': 200 });
    stream.end(BIG);
  } else if (path === '/digest') {
    void readAll(stream).then((body) => {
      stream.respond({ ':status': 200 });
      stream.end(digest(body));
    });
  } else if (path === '/reset') stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  else {
    stream.respond({ ':status': 200, 'content-type': 'application/json' });
    stream.end(JSON.stringify(headers));
  }
}

/** Messages are bytes: no schema is needed to see whether they arrive. */
const bytesMethod = (path: string, requestStream: boolean, responseStream: boolean) => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: (value: Buffer) => value,
  requestDeserialize: (value: Buffer) => value,
  responseSerialize: (value: Buffer) => value,
  responseDeserialize: (value: Buffer) => value,
});

const ECHO_SERVICE = {
  Unary: bytesMethod('/test.Echo/Unary', false, false),
  Fails: bytesMethod('/test.Echo/Fails', false, false),
  Secret: bytesMethod('/test.Echo/Secret', false, false),
  Chat: bytesMethod('/test.Echo/Chat', true, true),
} satisfies grpc.ServiceDefinition;

async function startGrpc(): Promise<{ readonly server: grpc.Server; readonly port: number }> {
  const server = new grpc.Server();
  server.addService(ECHO_SERVICE, {
    Unary: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => done(null, call.request),
    Secret: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => done(null, call.request),
    Fails: (_call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) =>
      done({ code: grpc.status.NOT_FOUND, details: 'no such thing' }),
    Chat: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
      call.on('data', (message: Buffer) => call.write(message));
      call.on('end', () => call.end());
    },
  });
  const credentials = grpc.ServerCredentials.createInsecure();
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error === null ? resolve(bound) : reject(error))),
  );
  return { server, port };
}

class EchoClient extends grpc.Client {
  constructor(target: TcpAddress) {
    super(`${target.address}:${target.port}`, grpc.credentials.createInsecure());
  }

  call(method: 'Unary' | 'Fails' | 'Secret', message: Buffer): Promise<Buffer | undefined> {
    const { path, requestSerialize, responseDeserialize } = ECHO_SERVICE[method];
    const deadline = { deadline: Date.now() + 20_000 };
    return new Promise((resolve, reject) => {
      this.makeUnaryRequest(path, requestSerialize, responseDeserialize, message, deadline, (error, value) =>
        error === null ? resolve(value) : reject(error),
      );
    });
  }

  chat(): grpc.ClientDuplexStream<Buffer, Buffer> {
    const { path, requestSerialize, responseDeserialize } = ECHO_SERVICE.Chat;
    return this.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
  }
}

async function withSession<T>(target: TcpAddress, use: (session: http2.ClientHttp2Session) => Promise<T>): Promise<T> {
  const session = http2.connect(`http://${target.address}:${target.port}`);
  session.on('error', () => undefined);
  try {
    return await use(session);
  } finally {
    session.destroy();
  }
}

async function get(
  session: http2.ClientHttp2Session,
  path: string,
  body: Buffer | null = null,
): Promise<{ readonly status: number; readonly body: Buffer }> {
  const stream = session.request({ ':path': path, ':method': body === null ? 'GET' : 'PUT' });
  stream.end(body ?? undefined);
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
  return { status: Number(headers[':status']), body: await readAll(stream) };
}

beforeAll(async () => {
  app = await http2App(answer);
  const { server, port } = await startGrpc();
  grpcServer = server;
  const allow = (name: string): string => policyManifest({ name: `allow-${name}`, app: name, from: ['frontend'] });
  const secret = {
    name: 'secret',
    app: 'echo',
    action: 'DENY',
    from: ['frontend'],
    paths: ['/test.Echo/Secret'],
  } as const;
  mesh = await Mesh.start({
    manifests: {
      'orders.yaml': serviceManifest('orders', 8080, 8080, 'http2'),
      'echo.yaml': serviceManifest('echo', 9090, 9090, 'grpc'),
      'allow-orders.yaml': allow('orders'),
      'allow-echo.yaml': allow('echo'),
      'secret.yaml': policyManifest(secret),
    },
    workloads: [
      { name: 'orders', expose: [{ port: 8080, application: app }] },
      { name: 'echo', expose: [{ port: 9090, application: { address: '127.0.0.1', port } }] },
      { name: 'frontend', upstreams: [ORDERS, ECHO] },
      { name: 'payments', upstreams: [ORDERS, ECHO] },
    ],
  });
  const ready = async (): Promise<boolean> =>
    await withSession(at(ORDERS), async (session) => (await get(session, '/')).status === 200);
  await eventually(ready, { what: 'the endpoints to reach frontend' });
});

afterAll(async () => {
  await mesh?.stop();
  await app?.close();
  grpcServer?.forceShutdown();
});

describe("Node's own HTTP/2, through two sidecars", () => {
  test('a request arrives with the identity of its sender', async () => {
    const { body } = await withSession(at(ORDERS), (session) => get(session, '/orders?x=1'));
    const seen = JSON.parse(body.toString());
    expect(seen).toMatchObject({ ':method': 'GET', ':path': '/orders?x=1' });
    expect(seen['x-forwarded-client-cert']).toContain(`URI=${mesh.workload('frontend').spiffeId}`);
    expect(seen['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('a hundred requests at a time on one connection', async () => {
    const answers = await withSession(at(ORDERS), (session) =>
      Promise.all(Array.from({ length: 100 }, (_, i) => get(session, `/${i}`))),
    );
    expect(answers.map(({ body }) => JSON.parse(body.toString())[':path'])).toEqual(
      Array.from({ length: 100 }, (_, i) => `/${i}`),
    );
  });

  test('large bodies pass whole in both directions, beside one another', async () => {
    const results = await withSession(at(ORDERS), (session) =>
      Promise.all([get(session, '/big'), get(session, '/digest', BIG), get(session, '/big')]),
    );
    const [first, uploaded, second] = results;
    expect(digest(first.body)).toBe(digest(BIG));
    expect(uploaded.body.toString()).toBe(digest(BIG));
    expect(digest(second.body)).toBe(digest(BIG));
  });

  test('a stream that the application resets ends alone', async () => {
    await withSession(at(ORDERS), async (session) => {
      const beside = get(session, '/digest', Buffer.from('x'));
      await get(session, '/reset').catch(() => undefined);
      expect((await beside).status).toBe(200);
      expect((await get(session, '/')).status).toBe(200);
    });
  });

  test('another caller is told so', async () => {
    const { status, body } = await withSession(at(ORDERS, 'payments'), (session) => get(session, '/'));
    expect([status, body.toString()]).toEqual([403, 'RBAC: access denied']);
  });
});

describe('@grpc/grpc-js as client and server', () => {
  let client: EchoClient;

  beforeAll(() => {
    client = new EchoClient(at(ECHO));
  });

  afterAll(() => client.close());

  test('a unary call, and a large one', async () => {
    expect(await client.call('Unary', Buffer.from('hello'))).toEqual(Buffer.from('hello'));
    const large = BIG.subarray(0, 3 * 1024 * 1024);
    expect(await client.call('Unary', large)).toEqual(large);
  });

  test("the application's own status arrives", async () => {
    await expect(client.call('Fails', Buffer.from(''))).rejects.toMatchObject({ code: 5, details: 'no such thing' });
  });

  test('a stream of messages both ways', async () => {
    const chat = client.chat();
    const received: string[] = [];
    chat.on('data', (message: Buffer) => received.push(message.toString()));
    for (const text of ['one', 'two', 'three']) {
      chat.write(Buffer.from(text));
      await eventually(() => received.at(-1) === text, { what: `the echo of ${text}` });
    }
    chat.end();
    await once(chat, 'end');
    expect(received).toEqual(['one', 'two', 'three']);
  });

  test('a call that a policy denies is PERMISSION_DENIED; so is every call of another caller', async () => {
    await expect(client.call('Secret', Buffer.from(''))).rejects.toMatchObject({ code: grpc.status.PERMISSION_DENIED });
    const stranger = new EchoClient(at(ECHO, 'payments'));
    await expect(stranger.call('Unary', Buffer.from(''))).rejects.toMatchObject({
      code: grpc.status.PERMISSION_DENIED,
    });
    stranger.close();
  });

  test('calls, messages and statuses are counted', async () => {
    const labels = { reporter: 'destination', request_protocol: 'grpc', destination_workload: 'echo' };
    await eventually(
      async () => {
        const metrics = await mesh.workload('echo').metrics();
        const calls = (status: string): number =>
          metrics.sum('istio_requests_total', { ...labels, grpc_response_status: status });
        const messages = metrics.sum('istio_request_messages_total', labels);
        return calls('0') > 0 && calls('5') > 0 && calls('7') > 0 && messages >= 4;
      },
      { what: 'the counts of gRPC' },
    );
  });
});
