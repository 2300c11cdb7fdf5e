import { getEventListeners } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { createSecureServer } from 'node:http2';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import { createKubeApiClient, type KubeApiClient, KubeApiError } from '../../src/kube/api-client.ts';
import { EndpointError, type EndpointSource, explicitEndpoint } from '../../src/kube/endpoint.ts';
import { withExtraHeaders } from '../../src/kube/extra-headers.ts';
import type { HttpResponse } from '../../src/kube/http-request.ts';
import { kubeConfigEndpoint } from '../../src/kube/kubeconfig.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { leaked } from '../fixtures/find-token.ts';
import { endPlugin, execUser, kubeconfig, pluginRuns } from '../fixtures/kubeconfig.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';
import { answers, type Behaviour, hangs, resets, type StandIn, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { pem, startTlsServer } from '../fixtures/tls-server.ts';
import { until } from '../fixtures/until.ts';

const ok = answers(201, '{}');
/** A deadline that no passing test reaches. */
const patient = () => AbortSignal.timeout(20_000);

function connectTo(
  t: Test,
  source: EndpointSource | (() => Promise<EndpointSource>),
  maxConnections = 8,
  now?: () => number,
) {
  const connection = createKubeApiClient({
    source: typeof source === 'function' ? source : async () => source,
    maxConnections,
    userAgent: 'gatecar/test',
    ...(now && { now }),
  });
  t.teardown(() => connection.close());
  return connection;
}

const endpointAt = (url: string) => explicitEndpoint({ url, tokenFile: undefined, caFile: undefined });
/** Returns the error that a request failed with. */
async function failure(work: Promise<unknown>): Promise<KubeApiError> {
  const error = await work.catch(error => error);
  if (!(error instanceof KubeApiError)) throw new Error('the request did not fail with a KubeApiError');
  return error;
}

const post = (connection: KubeApiClient, signal = patient()) => connection.post('/review', '{"a":1}', signal);

/** Sends `count` requests, one after the other. */
async function postInTurn(connection: KubeApiClient, count: number): Promise<HttpResponse[]> {
  const responses: HttpResponse[] = [];
  for (let request = 0; request < count; request += 1) {
    responses.push(await post(connection));
    // undici does not reuse a connection in the event-loop turn in which a response ended: stray
    // bytes could be read as the next response.
    await nextTurn();
  }
  return responses;
}

async function standIn(t: Test, behaviour: Behaviour): Promise<StandIn> {
  const api = await startStandIn(behaviour);
  t.teardown(() => api.close());
  return api;
}

t.test('a GET has no body, and its response contains the max-age', async t => {
  const requests: string[] = [];
  const { createServer } = await import('node:http');
  const server = createServer((request, response) => {
    requests.push(
      `${request.method} ${request.url} ${request.headers['content-type']} ${request.headers['content-length']} ${request.headers.accept} ${request.headers['cache-control']}`,
    );
    response
      .writeHead(200, { 'Cache-Control': 'public, max-age=3600', Date: 'Sun, 01 Jun 2025 12:00:00 GMT' })
      .end('{}');
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const connection = connectTo(t, endpointAt(`http://127.0.0.1:${(server.address() as AddressInfo).port}/base`));
  t.strictSame(await connection.get('/openid/v1/jwks', patient()), {
    status: 200,
    body: '{}',
    retryAfterSeconds: undefined,
    maxAgeSeconds: 3600,
    sentAtMs: Date.UTC(2025, 5, 1, 12),
  });
  t.strictSame(requests, [
    'GET /base/openid/v1/jwks undefined undefined application/json, application/jwk-set+json no-cache',
  ]);
});

t.test('the time of a response is read only from a valid Date header without Age', async t => {
  const date = 'Sun, 01 Jun 2025 12:00:00 GMT';
  const sentAt = Date.UTC(2025, 5, 1, 12);
  for (const [headers, sentAtMs] of [
    [{ date }, sentAt],
    [{ date, age: '0' }, undefined],
    [{ date: '2025' }, undefined],
    [{ date: '2025-06-01T12:00:00Z' }, undefined],
    [{ date: 'Sun, 99 Jun 2025 12:00:00 GMT' }, undefined],
    [{ date: 'Thu, 01 Jan 1970 00:00:00 GMT' }, undefined],
    [{ date: '' }, undefined],
  ] as const) {
    const api = await standIn(t, answers(201, '{}', headers));
    t.equal((await post(connectTo(t, endpointAt(api.url)))).sentAtMs, sentAtMs, JSON.stringify(headers));
  }
});

/** Starts a TCP server that passes its connections to `handle`, for protocols other than HTTP. */
async function tcpServer(t: Test, handle: (socket: Socket) => void): Promise<string> {
  const server = createTcpServer(socket => {
    t.teardown(() => socket.destroy());
    handle(socket.on('error', () => {}));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

t.test(
  'a request is sent below the base URL’s path with the endpoint’s headers, and its response is returned',
  async t => {
    const api = await standIn(t, answers(403, 'the body', { 'retry-after': '7', date: 'yesterday' }));
    for (const base of [`${api.url}/prefix`, `${api.url}/prefix/`]) {
      const source = withExtraHeaders(endpointAt(base), { 'dapr-app-id': 'kube-proxy' });
      t.strictSame(await post(connectTo(t, source)), {
        status: 403,
        body: 'the body',
        retryAfterSeconds: 7,
        maxAgeSeconds: undefined,
        sentAtMs: undefined,
      });
    }
    t.match(api.requests, [
      {
        path: '/prefix/review',
        body: '{"a":1}',
        headers: {
          'content-type': 'application/json',
          accept: 'application/json',
          'user-agent': 'gatecar/test',
          'dapr-app-id': 'kube-proxy',
          authorization: undefined,
        },
      },
      { path: '/prefix/review' },
    ]);
  },
);

t.test('Retry-After is used only if it is a whole number of seconds', async t => {
  const api = await standIn(t, ok);
  const connection = connectTo(t, endpointAt(api.url));
  const values = { 0: 0, 120: 120, '-1': undefined, '1.5': undefined, 'Wed, 21 Oct 2026 07:28:00 GMT': undefined };
  for (const [header, seconds] of Object.entries(values)) {
    api.behaviour = answers(429, '', { 'retry-after': header });
    t.equal((await post(connection)).retryAfterSeconds, seconds, header);
  }
  api.behaviour = answers(429, '');
  t.equal((await post(connection)).retryAfterSeconds, undefined);
});

t.test('trace headers are added to a request and never replace headers of the endpoint', async t => {
  const api = await standIn(t, ok);
  const source = withExtraHeaders(endpointAt(api.url), { 'dapr-app-id': 'kube-proxy' });
  const connection = connectTo(t, source);
  await connection.post('/review', '{}', patient(), { traceparent: '00-1-2-01', 'dapr-app-id': 'other' });
  await post(connection);
  t.match(api.requests[0]?.headers, {
    traceparent: '00-1-2-01',
    'dapr-app-id': 'kube-proxy',
    'user-agent': 'gatecar/test',
  });
  t.match(api.requests[1]?.headers, { traceparent: undefined, 'dapr-app-id': 'kube-proxy' });
});

t.test('a response is read completely after early hints and across split characters', async t => {
  const api = await standIn(t, (_request, response) => {
    response.writeEarlyHints({ link: '</style.css>; rel=preload' });
    response.writeHead(201);
    const bytes = Buffer.from('{"name":"zoë"}');
    response.write(bytes.subarray(0, 12), () => response.end(bytes.subarray(12)));
  });
  t.match(await post(connectTo(t, endpointAt(api.url))), { status: 201, body: '{"name":"zoë"}' });
});

t.test('a GET without a response does not delay reviews, even with one connection', async t => {
  const requested = Promise.withResolvers<void>();
  const { createServer } = await import('node:http');
  const server = createServer((request, response) => {
    if (request.method === 'GET') requested.resolve();
    else response.writeHead(201).end('{}');
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const connection = connectTo(t, endpointAt(`http://127.0.0.1:${(server.address() as AddressInfo).port}`), 1);
  const deadline = new AbortController();
  const document = failure(connection.get('/openid/v1/jwks', deadline.signal));
  await requested.promise;
  t.match(await post(connection), { status: 201 });
  deadline.abort();
  t.match(await document, { outage: 'timeout' });
});

t.test('1,000 sequential requests use one connection', async t => {
  const api = await standIn(t, ok);
  const connection = connectTo(t, endpointAt(api.url));
  await postInTurn(connection, 1000);
  t.equal(api.requests.length, 1000);
  t.equal(api.connections, 1);
});

t.test('1,000 sequential requests without a pause use at most two connections', async t => {
  const api = await standIn(t, ok);
  const connection = connectTo(t, endpointAt(api.url));
  for (let request = 0; request < 1000; request += 1) await post(connection);
  t.ok(api.connections <= 2);
});

t.test('at most maxConnections connections are open at once', async t => {
  let waiting = 0;
  let maxWaiting = 0;
  const api = await standIn(t, (request, response) => {
    waiting += 1;
    maxWaiting = Math.max(maxWaiting, waiting);
    setImmediate(() => {
      waiting -= 1;
      ok(request, response);
    });
  });
  const connection = connectTo(t, endpointAt(api.url), 4);
  await Promise.all(Array.from({ length: 64 }, () => post(connection)));
  t.equal(api.connections, 4);
  t.ok(maxWaiting <= 4);
});

t.test('a request on a connection that is reset is retried once', async t => {
  const api = await standIn(t, ok);
  const connection = connectTo(t, endpointAt(api.url));
  await post(connection);
  let cuts = 0;
  api.behaviour = (request, response) => {
    cuts += 1;
    (cuts === 1 ? resets : ok)(request, response);
  };
  t.match(await post(connection), { status: 201 });
  t.equal(api.requests.length, 3);

  api.behaviour = resets;
  t.match(await failure(post(connection)), { outage: 'connection_reset' });
  t.equal(api.requests.length, 5);
});

t.test('a request that fails for another reason than a reset is not retried', async t => {
  const api = await standIn(t, (_request, response) => response.socket?.end('SSH-2.0-OpenSSH\r\n'));
  t.match(await failure(post(connectTo(t, endpointAt(api.url)))), { outage: 'connection_failed' });
  t.equal(api.requests.length, 1);
});

t.test('requests to a server that closes each connection succeed on new connections', async t => {
  const api = await standIn(t, (request, response) => {
    response.setHeader('connection', 'close');
    ok(request, response);
  });
  const connection = connectTo(t, endpointAt(api.url));
  for (let request = 0; request < 5; request += 1) t.match(await post(connection), { status: 201 });
  t.equal(api.connections, 5);
});

t.test('a redirect is returned and not followed', async t => {
  const elsewhere = await standIn(t, ok);
  for (const status of [301, 302, 307, 308]) {
    const api = await standIn(t, answers(status, '', { location: `${elsewhere.url}/review` }));
    t.match(await post(connectTo(t, endpointAt(api.url))), { status });
  }
  t.equal(elsewhere.requests.length, 0);
});

t.test('a response of 1 MiB is read, and one byte more is an error', async t => {
  const limit = 1024 * 1024;
  const chunked =
    (size: number): Behaviour =>
    (_request, response) => {
      response.writeHead(200);
      response.write('x'.repeat(size - 1));
      response.end('x');
    };
  const api = await standIn(t, ok);
  const connection = connectTo(t, endpointAt(api.url));
  for (const sized of [(size: number) => answers(200, 'x'.repeat(size)), chunked]) {
    api.behaviour = sized(limit);
    t.equal((await post(connection)).body.length, limit);
    api.behaviour = sized(limit + 1);
    t.match(await failure(post(connection)), { outage: 'response_too_large' });
  }
});

t.test('rotation of gatecar’s credential', async t => {
  /** Accepts only this credential. */
  const accepts =
    (authorization: string): Behaviour =>
    (request, response) =>
      answers(request.headers.authorization === authorization ? 201 : 401, '{}')(request, response);

  async function withToken(t: Test, behaviour: Behaviour) {
    const api = await standIn(t, behaviour);
    const volume = await projectedVolume(t.testdir(), { token: 'old', 'ca.crt': pem('ca.crt') });
    const files = { tokenFile: volume.path('token'), caFile: volume.path('ca.crt') };
    return { api, volume, connection: connectTo(t, explicitEndpoint({ url: api.url, ...files })) };
  }

  t.test('a rotated credential is re-read after a 401 and the request retried', async t => {
    const { api, volume, connection } = await withToken(t, ok);
    await post(connection);
    await volume.swap({ token: 'new', 'ca.crt': pem('ca.crt') });
    api.behaviour = accepts('Bearer new');
    t.match(await post(connection), { status: 201 });
    t.strictSame(
      api.requests.map(request => request.headers.authorization),
      ['Bearer old', 'Bearer old', 'Bearer new'],
    );
    t.equal(api.connections, 1, 'an unchanged CA bundle keeps the connection');
  });

  t.test('a request is not retried after a 401 if the credential has not changed', async t => {
    const { api, connection } = await withToken(t, accepts('Bearer other'));
    t.match(await post(connection), { status: 401 });
    t.equal(api.requests.length, 1);
  });

  t.test('a request rejected twice with 401 is not retried again', async t => {
    const { api, volume, connection } = await withToken(t, ok);
    await post(connection);
    await volume.swap({ token: 'new', 'ca.crt': pem('ca.crt') });
    api.behaviour = answers(401, '{}');
    t.match(await post(connection), { status: 401 });
    t.equal(api.requests.length, 3);
  });

  t.test('an exec plugin is run again after a 401', async t => {
    const api = await startTlsServer(t);
    const directory = tempDir(t);
    const config = join(directory, 'config');
    const cluster = { server: api.url, 'certificate-authority-data': Buffer.from(pem('ca.crt')).toString('base64') };
    await writeFile(config, kubeconfig({ cluster, user: execUser('token', join(directory, 'runs')) }));
    const presented: (string | undefined)[] = [];
    api.handle = (request, response) => {
      presented.push(request.headers.authorization);
      response.writeHead(presented.length === 2 ? 401 : 201).end('{}');
    };
    const noOverrides = { context: undefined, tokenFile: undefined, caFile: undefined };
    const connection = connectTo(t, kubeConfigEndpoint({ files: [config], ...noOverrides }));
    for (let request = 0; request < 2; request += 1) t.match(await post(connection), { status: 201 });
    t.strictSame(presented, ['Bearer plugin-token-1', 'Bearer plugin-token-1', 'Bearer plugin-token-2']);
  });

  t.test(
    'a credential that 64 concurrent reviews are rejected with is rotated by one plugin run, and all succeed',
    async t => {
      const api = await startTlsServer(t);
      const directory = tempDir(t);
      const [config, runs] = [join(directory, 'config'), join(directory, 'runs')];
      const cluster = { server: api.url, 'certificate-authority-data': Buffer.from(pem('ca.crt')).toString('base64') };
      await writeFile(config, kubeconfig({ cluster, user: execUser('token', runs) }));
      let valid = 'Bearer plugin-token-1';
      api.handle = (request, response) => {
        response.writeHead(request.headers.authorization === valid ? 201 : 401).end('{}');
      };
      const noOverrides = { context: undefined, tokenFile: undefined, caFile: undefined };
      const connection = connectTo(t, kubeConfigEndpoint({ files: [config], ...noOverrides }), 4);
      await post(connection);
      for (const run of [2, 3]) {
        valid = `Bearer plugin-token-${run}`;
        const responses = await Promise.all(Array.from({ length: 64 }, () => post(connection)));
        t.strictSame(new Set(responses.map(({ status }) => status)), new Set([201]));
        t.equal(pluginRuns(runs).length, run);
      }
    },
  );

  t.test(
    'if every rotated credential is rejected, the credential is rotated once a second, not per review',
    async t => {
      const clock = fakeClock();
      const api = await standIn(t, answers(401, '{}'));
      const endpoint = await endpointAt(api.url).current();
      let invalidations = 0;
      const source: EndpointSource = {
        current: async () => ({ ...endpoint, headers: { authorization: `Bearer ${invalidations}` } }),
        invalidate() {
          invalidations += 1;
        },
        reloadTls() {},
      };
      const connection = connectTo(t, source, 8, clock.now);
      for (let review = 0; review < 10; review += 1) t.match(await post(connection), { status: 401 });
      t.equal(invalidations, 1);
      clock.advance(1000);
      await post(connection);
      t.equal(invalidations, 2);
    },
  );

  t.test('a proxy’s header file is re-read after a 401, and the request retried if it changed', async t => {
    const volume = await projectedVolume(t.testdir(), { token: 'one' });
    const presented: unknown[] = [];
    const api = await standIn(t, (request, response) => {
      presented.push(request.headers['dapr-api-token']);
      response.writeHead(request.headers['dapr-api-token'] === 'two' ? 201 : 401).end('invalid api token\n');
    });
    const clock = fakeClock();
    const headers = { 'dapr-api-token': `@${volume.path('token')}` };
    // This clock stands still, so only the 401 causes the file to be read again.
    const connection = connectTo(t, withExtraHeaders(endpointAt(api.url), headers, fakeClock().now), 8, clock.now);
    t.match(await post(connection), { status: 401 });
    t.strictSame(presented, ['one'], 'an unchanged value is not sent again');
    await volume.swap({ token: 'two' });
    clock.advance(1000);
    t.match(await post(connection), { status: 201 });
    t.strictSame(presented, ['one', 'one', 'two']);
  });

  t.test('a request is retried after a 401 if only the client certificate changed', async t => {
    const api = await standIn(t, answers(401, '{}'));
    let reads = 0;
    const source: EndpointSource = {
      async current() {
        reads += 1;
        return { baseUrl: api.url, headers: {}, tls: { cert: `certificate ${reads}` }, proxyUrl: undefined };
      },
      invalidate() {},
      reloadTls() {},
    };
    t.match(await post(connectTo(t, source)), { status: 401 });
    t.equal(api.requests.length, 2);
  });
});

t.test('endpoint source failures', async t => {
  t.test('an endpoint error makes the client unavailable with the error’s message', async t => {
    const source = explicitEndpoint({ url: 'http://127.0.0.1:1', tokenFile: '/not/there', caFile: undefined });
    const message = 'token file /not/there cannot be read: ENOENT';
    t.match(await failure(post(connectTo(t, source))), { outage: 'client_unavailable', message });
  });

  t.test('creating the endpoint source is retried until it succeeds once', async t => {
    const api = await standIn(t, ok);
    let attempts = 0;
    const connection = connectTo(t, async () => {
      attempts += 1;
      if (attempts === 1) throw new EndpointError('not yet');
      return endpointAt(api.url);
    });
    t.match(await failure(post(connection)), { outage: 'client_unavailable', message: 'not yet' });
    for (let request = 0; request < 3; request += 1) t.match(await post(connection), { status: 201 });
    t.equal(attempts, 2);
  });

  t.test('a review with a hanging exec plugin times out at its deadline', async t => {
    const directory = tempDir(t);
    const runs = join(directory, 'runs');
    await writeFile(join(directory, 'config'), kubeconfig({ user: execUser('hang-at-first', runs) }));
    const noOverrides = { context: undefined, tokenFile: undefined, caFile: undefined };
    const connection = connectTo(t, kubeConfigEndpoint({ files: [join(directory, 'config')], ...noOverrides }));
    const outcome = post(connection, AbortSignal.timeout(500)).catch(error => error);
    t.match(await outcome, { outage: 'timeout', message: 'timeout' });
    await endPlugin(runs);
  });

  t.test('an unexpected error of the endpoint source is a failed connection, without its message', async t => {
    const connection = connectTo(t, async () => {
      throw new TypeError('secret');
    });
    t.match(await failure(post(connection)), {
      outage: 'connection_failed',
      message: 'connection failed (unknown error)',
    });
  });
});

t.test('TLS', async t => {
  const ca = (name: string) => Buffer.from(pem(name)).toString('base64');
  const trusting = { 'certificate-authority-data': ca('ca.crt') };

  /** Connects by a kubeconfig that the test can change. */
  function byKubeconfig(t: Test, text: string) {
    const file = join(tempDir(t, { config: text }), 'config');
    const clock = fakeClock();
    const noOverrides = { context: undefined, tokenFile: undefined, caFile: undefined };
    const connection = connectTo(t, kubeConfigEndpoint({ files: [file], ...noOverrides, now: clock.now }));
    const change = async (changed: string) => {
      await writeFile(file, changed);
      clock.advance(10_000);
    };
    return { connection, change };
  }

  t.test('a server with a certificate of the CA is trusted, and its connection reused', async t => {
    const api = await startTlsServer(t);
    const { connection } = byKubeconfig(t, kubeconfig({ cluster: { server: api.url, ...trusting } }));
    for (const response of await postInTurn(connection, 10)) t.match(response, { status: 200, body: '{}' });
    t.equal(api.connections, 1);
  });

  /** Starts a server that offers HTTP/2 and HTTP/1.1, like the API server. */
  async function startDualServer(t: Test) {
    const versions: string[] = [];
    const material = { cert: pem('server.crt'), key: pem('server.key') };
    const server = createSecureServer({ allowHTTP1: true, ...material }, (request, response) => {
      versions.push(request.httpVersion);
      request.resume().once('end', () => response.end('{}'));
    });
    const sockets = new Set<Socket>();
    server.on('connection', socket => sockets.add(socket));
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, versions };
  }

  t.test('HTTP/1.1 is used even if the server offers HTTP/2', async t => {
    const { url, versions } = await startDualServer(t);
    const { connection } = byKubeconfig(t, kubeconfig({ cluster: { server: url, ...trusting } }));
    t.match(await post(connection), { status: 200 });
    t.strictSame(versions, ['1.1']);
  });

  t.test('after a review times out on a silent connection, the next review uses a new connection', async t => {
    const { port } = new URL((await startDualServer(t)).url);
    let isSilent = false;
    const relay = await tcpServer(t, socket => {
      const upstream = connect(Number(port), '127.0.0.1').on('error', () => {});
      t.teardown(() => upstream.destroy());
      // Only this connection is silent; later connections work.
      let isLost = false;
      const pass = (to: Socket) => (chunk: Buffer) => {
        isLost ||= isSilent;
        if (!isLost) to.write(chunk);
      };
      socket.on('data', pass(upstream));
      upstream.on('data', pass(socket));
    });
    const { connection } = byKubeconfig(t, kubeconfig({ cluster: { server: `https://${relay}`, ...trusting } }));
    t.match(await post(connection), { status: 200 });
    isSilent = true;
    t.match(await failure(post(connection, AbortSignal.timeout(50))), { outage: 'timeout' });
    isSilent = false;
    t.match(await post(connection), { status: 200 });
  });

  t.test('no request is sent to a server with a certificate of another or an unknown CA', async t => {
    const api = await startTlsServer(t);
    for (const cluster of [{}, { 'certificate-authority-data': ca('other-ca.crt') }]) {
      const { connection } = byKubeconfig(t, kubeconfig({ cluster: { server: api.url, ...cluster } }));
      t.match(await failure(post(connection)), { outage: 'tls' });
    }
    t.strictSame(api.clients, []);
  });

  t.test('no request is sent to a server with another name, unless tls-server-name allows it', async t => {
    const api = await startTlsServer(t, 'server-by-name');
    const cluster = { server: api.url, ...trusting };
    const { connection, change } = byKubeconfig(t, kubeconfig({ cluster }));
    t.match(await failure(post(connection)), { outage: 'tls', message: 'tls (ERR_TLS_CERT_ALTNAME_INVALID)' });
    t.strictSame(api.clients, []);
    await change(kubeconfig({ cluster: { ...cluster, 'tls-server-name': 'kubernetes.default.svc' } }));
    t.match(await post(connection), { status: 200 });
  });

  t.test('an IP as tls-server-name is compared with the certificate, and Node prints no warning', async t => {
    const warnings: unknown[] = [];
    const note = (warning: unknown) => warnings.push(warning);
    process.on('warning', note);
    t.teardown(() => process.off('warning', note));
    const api = await startTlsServer(t);
    const server = api.url.replace('127.0.0.1', 'localhost');
    const cluster = { server, ...trusting, 'tls-server-name': '127.0.0.1' };
    t.match(await post(byKubeconfig(t, kubeconfig({ cluster })).connection), { status: 200 });
    const other = { ...cluster, 'tls-server-name': '192.0.2.1' };
    const { connection } = byKubeconfig(t, kubeconfig({ cluster: other }));
    t.match(await failure(post(connection)), { outage: 'tls', message: 'tls (ERR_TLS_CERT_ALTNAME_INVALID)' });
    await new Promise(resolve => setImmediate(resolve));
    t.strictSame(warnings, []);
  });

  t.test('insecure-skip-tls-verify disables verification', async t => {
    const api = await startTlsServer(t, 'server-by-name');
    const cluster = { server: api.url, 'insecure-skip-tls-verify': true };
    t.match(await post(byKubeconfig(t, kubeconfig({ cluster })).connection), { status: 200 });
  });

  t.test('a client certificate is presented, and a renewed one on a new connection', async t => {
    const api = await startTlsServer(t);
    const text = (name: string) =>
      kubeconfig({
        cluster: { server: api.url, ...trusting },
        user: { 'client-certificate-data': ca(`${name}.crt`), 'client-key-data': ca(`${name}.key`) },
      });
    const { connection, change } = byKubeconfig(t, text('client'));
    await postInTurn(connection, 2);
    await change(text('client-renewed'));
    await postInTurn(connection, 2);
    t.strictSame(api.clients, ['gatecar', 'gatecar', 'gatecar-renewed', 'gatecar-renewed']);
    t.equal(api.connections, 2);
  });

  t.test('a replaced CA bundle takes effect without an error for requests in flight', async t => {
    const api = await startTlsServer(t);
    const volume = await projectedVolume(t.testdir(), { 'ca.crt': pem('ca.crt') });
    const clock = fakeClock();
    const files = { tokenFile: undefined, caFile: volume.path('ca.crt') };
    const connection = connectTo(t, explicitEndpoint({ url: api.url, ...files, now: clock.now }));
    const delayed = Promise.withResolvers<void>();
    api.handle = (_request, response) => delayed.promise.then(() => response.end('{}'));
    const inFlight = post(connection);
    await until(() => api.clients.length === 1);

    await volume.swap({ 'ca.crt': `${pem('other-ca.crt')}${pem('ca.crt')}` });
    clock.advance(1000);
    api.handle = (_request, response) => response.end('{}');
    t.match(await post(connection), { status: 200 });
    t.equal(api.connections, 2);
    delayed.resolve();
    t.match(await inFlight, { status: 200 });

    await volume.swap({ 'ca.crt': pem('other-ca.crt') });
    clock.advance(1000);
    t.match(await failure(post(connection)), { outage: 'tls' });
  });

  t.test(
    'after a TLS error the CA bundle is re-read, and the request to a server with a new certificate succeeds',
    async t => {
      const api = await startTlsServer(t);
      const volume = await projectedVolume(t.testdir(), { 'ca.crt': pem('other-ca.crt') });
      const files = { tokenFile: undefined, caFile: volume.path('ca.crt') };
      const connection = connectTo(t, explicitEndpoint({ url: api.url, ...files, now: fakeClock().now }));
      t.match(await failure(post(connection)), { outage: 'tls' });
      await volume.swap({ 'ca.crt': pem('ca.crt') });
      t.match(await post(connection), { status: 200 });
    },
  );

  t.test(
    'a review whose connection is reset while the CA bundle is replaced is retried with the new bundle',
    async t => {
      const api = await startTlsServer(t);
      const volume = await projectedVolume(t.testdir(), { 'ca.crt': pem('ca.crt') });
      const clock = fakeClock();
      const files = { tokenFile: undefined, caFile: volume.path('ca.crt') };
      const connection = connectTo(t, explicitEndpoint({ url: api.url, ...files, now: clock.now }));
      const resetConnection: (() => void)[] = [];
      api.handle = (request, _response) => resetConnection.push(() => request.socket.destroy());
      const inFlight = post(connection);
      await until(() => resetConnection.length === 1);
      await volume.swap({ 'ca.crt': `${pem('other-ca.crt')}${pem('ca.crt')}` });
      clock.advance(1000);
      api.handle = (_request, response) => response.end('{}');
      t.match(await post(connection), { status: 200 });
      resetConnection[0]?.();
      t.match(await inFlight, { status: 200 });
    },
  );

  t.test('no server is trusted if the CA bundle contains no certificate', async t => {
    const api = await startTlsServer(t);
    const caFile = join(tempDir(t, { 'ca.crt': 'no certificate' }), 'ca.crt');
    const connection = connectTo(t, explicitEndpoint({ url: api.url, tokenFile: undefined, caFile }));
    t.match(await failure(post(connection)), { outage: 'tls' });
    t.strictSame(api.clients, []);
  });

  t.test('a plain HTTP server behind an https URL is a TLS failure', async t => {
    const api = await standIn(t, ok);
    t.match(await failure(post(connectTo(t, endpointAt(api.url.replace('http:', 'https:'))))), { outage: 'tls' });
  });
});

t.test('proxy-url', async t => {
  /** Starts an HTTP proxy that opens tunnels (RFC 9110 §9.3.6) and forwards plain http requests. */
  async function startProxy(t: Test, requiresAuthentication = false) {
    const requests: string[] = [];
    const forward: RequestListener = (request, response) => {
      requests.push(`${request.method} ${request.url}`);
      response.writeHead(201).end('{"by":"proxy"}');
    };
    const sockets = new Set<Socket>();
    const proxy = createServer(forward);
    proxy.on('connect', (request, socket) => {
      requests.push(`CONNECT ${request.url} ${request.headers['proxy-authorization']}`);
      if (requiresAuthentication) {
        socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
        return;
      }
      const { hostname, port } = new URL(`http://${request.url}`);
      const upstream = connect(Number(port), hostname, () => {
        socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
        upstream.pipe(socket).pipe(upstream);
      });
      sockets.add(upstream);
      for (const stream of [socket, upstream]) stream.on('error', () => {});
    });
    proxy.on('connection', socket => sockets.add(socket));
    await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      proxy.close();
      for (const socket of sockets) socket.destroy();
    });
    return { requests, host: `127.0.0.1:${(proxy.address() as AddressInfo).port}` };
  }

  const through = (t: Test, server: string, proxyUrl: string) => {
    const data = Buffer.from(pem('ca.crt')).toString('base64');
    const cluster = { server, 'proxy-url': proxyUrl, 'certificate-authority-data': data };
    const file = join(tempDir(t, { config: kubeconfig({ cluster }) }), 'config');
    const noOverrides = { context: undefined, tokenFile: undefined, caFile: undefined };
    return connectTo(t, kubeConfigEndpoint({ files: [file], ...noOverrides }));
  };

  t.test('TLS to the API server is end to end in a proxy tunnel that is reused', async t => {
    const api = await startTlsServer(t);
    const proxy = await startProxy(t);
    const connection = through(t, api.url, `http://jane:secret@${proxy.host}`);
    for (const response of await postInTurn(connection, 3)) t.match(response, { status: 200 });
    const credential = Buffer.from('jane:secret').toString('base64');
    t.strictSame(proxy.requests, [`CONNECT ${new URL(api.url).host} Basic ${credential}`]);
    t.equal(api.connections, 1);
  });

  t.test('the API server’s certificate is verified through a proxy', async t => {
    const api = await startTlsServer(t, 'server-by-name');
    const proxy = await startProxy(t);
    t.match(await failure(post(through(t, api.url, `http://${proxy.host}`))), { outage: 'tls' });
    t.strictSame(api.clients, []);
  });

  t.test('plain http requests are forwarded by the proxy', async t => {
    const api = await standIn(t, ok);
    const proxy = await startProxy(t);
    t.match(await post(through(t, api.url, `http://${proxy.host}`)), { body: '{"by":"proxy"}' });
    t.strictSame(proxy.requests, [`POST ${api.url}/review`]);
  });

  t.test('a proxy that rejects the tunnel is a failed connection, and the error has no proxy credential', async t => {
    const api = await startTlsServer(t);
    const proxy = await startProxy(t, true);
    const error = await post(through(t, api.url, `http://jane:proxy-secret@${proxy.host}`)).catch(error => error);
    t.match(error, { name: 'KubeApiError', outage: 'connection_failed' });
    t.notMatch(inspect(error, { showHidden: true, depth: Number.POSITIVE_INFINITY }), 'proxy-secret');
  });

  t.test('a TLS proxy is offered only HTTP/1.1 via ALPN', async t => {
    const api = await startTlsServer(t);
    const offered: string[][] = [];
    const material = { cert: pem('server.crt'), key: pem('server.key') };
    const ALPNCallback = ({ protocols }: { protocols: string[] }) => {
      offered.push(protocols);
      return protocols[0];
    };
    // This process does not trust the proxy's certificate, but ALPN protocols are offered before.
    const proxy = createTlsServer({ ...material, ALPNCallback }).on('tlsClientError', () => {});
    await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve));
    t.teardown(() => proxy.close());
    const { port } = proxy.address() as AddressInfo;
    t.match(await failure(post(through(t, api.url, `https://localhost:${port}`))), { outage: 'tls' });
    t.ok(offered.length > 0);
    for (const protocols of offered) t.strictSame(protocols, ['http/1.1']);
  });

  t.test('a proxy of an unsupported kind makes the client unavailable until the endpoint changes', async t => {
    const api = await standIn(t, ok);
    let proxyUrl: string | undefined;
    const tls = {};
    const source: EndpointSource = {
      current: async () => ({ baseUrl: api.url, headers: {}, tls, proxyUrl }),
      invalidate() {},
      reloadTls() {},
    };
    const connection = connectTo(t, source);
    t.match(await postInTurn(connection, 1), [{ status: 201 }]);
    proxyUrl = 'socks5://127.0.0.1:1080';
    const message = 'kubeconfig: only an http or https proxy-url is supported';
    t.match(await failure(post(connection)), { outage: 'client_unavailable', message });
    proxyUrl = undefined;
    t.match(await postInTurn(connection, 1), [{ status: 201 }]);
    t.equal(api.connections, 1);
  });
});

t.test('deadlines', async t => {
  const headOnly: Behaviour = (_request, response) => response.writeHead(200).flushHeaders();
  const trickle: Behaviour = (_request, response) => {
    response.writeHead(200).write('{');
    const timer = setInterval(() => response.write(' '), 5);
    response.once('close', () => clearInterval(timer));
  };

  t.test('the deadline ends a request whose response hangs or trickles, and the next request succeeds', async t => {
    for (const behaviour of [hangs, headOnly, trickle]) {
      const api = await standIn(t, behaviour);
      const connection = connectTo(t, endpointAt(api.url));
      t.match(await failure(post(connection, AbortSignal.timeout(50))), { outage: 'timeout' });
      t.equal(api.requests.length, 1, 'the request is not retried');
      api.behaviour = ok;
      t.match(await post(connection), { status: 201 });
    }
  });

  t.test('a request whose deadline passes before it has a connection is never sent', async t => {
    const api = await standIn(t, hangs);
    const connection = connectTo(t, endpointAt(api.url), 1);
    const [first, second] = [new AbortController(), new AbortController()];
    const hanging = failure(post(connection, first.signal));
    await until(() => api.requests.length === 1);
    const waiting = failure(post(connection, second.signal));
    const third = post(connection);
    await nextTurn();
    second.abort();
    t.match(await waiting, { outage: 'timeout' });
    api.behaviour = ok;
    first.abort();
    t.match(await hanging, { outage: 'timeout' });
    t.match(await third, { status: 201 });
    t.equal(api.requests.length, 2);
  });

  t.test('the deadline ends a hanging TLS handshake', async t => {
    const host = await tcpServer(t, () => {});
    const connection = connectTo(t, endpointAt(`https://${host}`));
    t.match(await failure(post(connection, AbortSignal.timeout(50))), { outage: 'timeout' });
  });

  t.test('a request whose deadline has passed fails without waiting for the endpoint source', async t => {
    const connection = connectTo(t, () => new Promise(() => {}));
    t.match(await failure(post(connection, AbortSignal.abort())), { outage: 'timeout' });
  });

  t.test('a request whose deadline passes while the endpoint loads is never sent', async t => {
    const api = await standIn(t, ok);
    const { promise, resolve } = Promise.withResolvers<EndpointSource>();
    const connection = connectTo(t, () => promise);
    const deadline = new AbortController();
    const request = failure(post(connection, deadline.signal));
    deadline.abort();
    t.match(await request, { outage: 'timeout' });
    resolve(endpointAt(api.url));
    await post(connection);
    t.equal(api.requests.length, 1);
  });

  t.test('a finished or failed request leaves no listener on its signal', async t => {
    const api = await standIn(t, ok);
    const connection = connectTo(t, endpointAt(api.url));
    const { signal } = new AbortController();
    await post(connection, signal);
    api.behaviour = resets;
    await t.rejects(post(connection, signal));
    t.equal(getEventListeners(signal, 'abort').length, 0);
  });
});

t.test('errors below HTTP are classified by cause', async t => {
  const closed = await startStandIn(ok);
  await closed.close();
  const cut = await tcpServer(t, socket => socket.destroy());
  const cases: [outage: string, url: string][] = [
    ['connection_refused', closed.url],
    // A label this long is invalid, so no DNS server is queried.
    ['dns_failure', `http://${'x'.repeat(64)}.invalid`],
    ['connection_reset', `http://${cut}`],
    ['connection_reset', `https://${cut}`],
    ['connection_failed', 'http://127.0.0.1:99999'],
  ];
  for (const [outage, url] of cases) t.match(await failure(post(connectTo(t, endpointAt(url)))), { outage }, url);
});

t.test('no error contains the request, the response or gatecar’s credential', async t => {
  const secrets = ['the-clients-bearer-token', 'gatecars-service-account-token', 'the-response-of-the-server'];
  const [clientToken, gatecarToken, responseText] = secrets;
  const tokenFile = join(tempDir(t, { token: `${gatecarToken}` }), 'token');
  const api = await standIn(t, ok);
  const connection = connectTo(t, explicitEndpoint({ url: api.url, tokenFile, caFile: undefined }));
  const failures: Behaviour[] = [
    resets,
    hangs,
    answers(200, `${responseText}${'x'.repeat(1024 * 1024)}`),
    (_request, response) => response.socket?.end(`HTTP/1.1 ${responseText}\r\n\r\n`),
    (_request, response) => response.socket?.end(`HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n${responseText}`),
  ];
  for (const behaviour of failures) {
    api.behaviour = behaviour;
    const error = await connection.post('/review', `${clientToken}`, AbortSignal.timeout(200)).catch(error => error);
    t.type(error, KubeApiError);
    const inspected = inspect(error, { showHidden: true, depth: Number.POSITIVE_INFINITY });
    t.equal(leaked(`${inspected}${error.stack}${JSON.stringify(error)}`, secrets), undefined);
  }
});

t.test(
  'a credential that is invalid in a header is a failed connection, and the error does not contain it',
  async t => {
    const api = await standIn(t, ok);
    const headers = { authorization: 'Bearer gatecar\nsecret-token' };
    const source: EndpointSource = {
      current: async () => ({ baseUrl: api.url, headers, tls: {}, proxyUrl: undefined }),
      invalidate() {},
      reloadTls() {},
    };
    const error = await post(connectTo(t, source)).catch(error => error);
    t.match(error, { outage: 'connection_failed', message: 'connection failed (UND_ERR_INVALID_ARG)' });
    t.notMatch(inspect(error), 'secret-token');
  },
);

t.test('close() ends requests in flight and closes all connections', async t => {
  const api = await standIn(t, ok);
  const connection = connectTo(t, endpointAt(api.url));
  await post(connection);
  api.behaviour = hangs;
  const inFlight = post(connection).catch(error => error);
  await until(() => api.requests.length === 2);
  await connection.close();
  t.match(await inFlight, { name: 'KubeApiError', outage: 'connection_failed' });
  t.match(await failure(post(connection)), { outage: 'connection_failed' });
  await connectTo(t, endpointAt(api.url)).close();
});
