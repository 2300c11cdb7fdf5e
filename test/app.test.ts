import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { Writable } from 'node:stream';
import t, { type Test } from 'tap';
import { createApp, VERSION } from '../src/app.ts';
import { readConfig } from '../src/config/load.ts';
import { type Address, address } from '../src/config/network-types.ts';
import { IN_CLUSTER_CA_FILE, IN_CLUSTER_TOKEN_FILE } from '../src/config/schema.ts';
import { readTracingSettings } from '../src/config/tracing-settings.ts';
import { revealToken } from '../src/credential/token.ts';
import { startFakeApiServer } from '../src/dev/fake-api-server.ts';
import { ISSUER, type TokenRequest, tokenIssuer } from '../src/dev/token-issuer.ts';
import { describeApiServer, inClusterAddress, type RuntimeEnvironment } from '../src/kube/endpoint-selection.ts';
import { CONNECTION_BYTES } from '../src/limits/constants.ts';
import { type Logger, logger } from '../src/observability/logging/logger.ts';
import { listen } from '../src/server/listen.ts';
import { envoyClient } from './fixtures/envoy-client.ts';
import { kubeconfig } from './fixtures/kubeconfig.ts';
import { listenerFiles } from './fixtures/listener-files.ts';
import { startOtlpReceiver } from './fixtures/otlp-receiver.ts';
import { sendRequest } from './fixtures/send-request.ts';
import {
  accepts,
  answers,
  hangs,
  heldBack,
  reviews,
  type StandIn,
  startStandIn,
} from './fixtures/stand-in-api-server.ts';
import { tempDir } from './fixtures/temp-dir.ts';
import { unsignedJwt } from './fixtures/unsigned-jwt.ts';
import { until } from './fixtures/until.ts';

const NOWHERE: RuntimeEnvironment = { inCluster: undefined, homeDirectory: undefined };
const POD = { host: '127.0.0.1', port: '1' };
const JWT = revealToken(unsignedJwt({ sub: 'a-client' }));

function memoryLog(level: string): { log: Logger; lines: () => Record<string, unknown>[] } {
  let text = '';
  const destination = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  const lines = () =>
    text
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line));
  return { log: logger(level, destination), lines };
}

/** Starts an app with a stand-in API server and its auth listener on loopback. */
async function startApp(
  t: Test,
  settings: Record<string, string> = {},
  level = 'debug',
  runtimeEnvironment: RuntimeEnvironment = NOWHERE,
) {
  const api = await startStandIn(accepts());
  t.teardown(() => api.close());
  const { log, lines } = memoryLog(level);
  const config = readConfig([], { GATECAR_KUBE_API_URL: api.url, ...settings });
  const app = await createApp(config, runtimeEnvironment, log);
  t.teardown(() => app.close());
  const url = `http://${await listen(app.auth.app, address.parse('127.0.0.1:0') as Address, 'X')}`;
  t.teardown(() => app.auth.destroy());
  t.teardown(() => app.ops.close());
  const scrape = async () => (await app.ops.inject('/metrics')).body.split('\n');
  return { api, app, log, lines, url, scrape };
}

/** @returns why the first review failed, as `/readyz?verbose` reports it, or `none`. */
async function problem(
  t: Test,
  settings: Record<string, string>,
  runtimeEnvironment: RuntimeEnvironment,
): Promise<string> {
  // The library that reads kubeconfigs loads slowly under a coverage tool.
  const config = readConfig([], { GATECAR_REVIEW_TIMEOUT: '30s', ...settings });
  const app = await createApp(config, runtimeEnvironment, logger('silent'));
  t.teardown(() => app.close());
  t.teardown(() => app.ops.close());
  app.health.start();
  await until(() => app.health.apiServerUp || !app.health.report().includes('no review yet'));
  return /^\[-\]first-review failed: (.*)$/m.exec(app.health.report())?.[1] ?? 'none';
}

t.test('a result of the API server is cached, returned as headers, counted and logged', async t => {
  const { api, url, scrape, lines } = await startApp(t, { GATECAR_KUBE_HEADERS: 'dapr-app-id=kube-proxy' });
  for (let request = 0; request < 3; request += 1) {
    const { status, headers } = await sendRequest(url, { token: 'abc' });
    t.equal(status, 200);
    t.equal(headers['x-auth-request-user'], 'system:serviceaccount:default:my-app');
  }
  t.equal(api.requests.length, 1);
  t.match(api.requests[0]?.headers, { 'user-agent': `gatecar/${VERSION}`, 'dapr-app-id': 'kube-proxy' });
  t.strictSame(JSON.parse(api.requests[0]?.body ?? '').spec, { token: 'abc', audiences: ['bindcar'] });
  const metrics = await scrape();
  for (const line of [
    'gatecar_requests_total{protocol="http",decision="allow",reason=""} 3',
    'gatecar_cache_lookups_total{result="miss"} 1',
    'gatecar_cache_lookups_total{result="hit_positive"} 2',
    'gatecar_cache_entries{store="authenticated"} 1',
    'gatecar_cache_entries{store="rejected"} 0',
    'gatecar_reviews_total{outcome="authenticated"} 1',
    'gatecar_review_duration_seconds_count 1',
    'gatecar_review_queue_duration_seconds_count 1',
    'gatecar_request_duration_seconds_count{decision="allow"} 3',
    'gatecar_apiserver_up 1',
    `gatecar_build_info{version="${VERSION}",node="${process.version}"} 1`,
  ]) {
    t.ok(metrics.includes(line), line);
  }
  t.equal(lines().filter(line => line['msg'] === 'allowed').length, 3);
});

t.test('authenticated and rejected results have stores with their own limit and counters', async t => {
  const { api, url, scrape } = await startApp(t, { GATECAR_CACHE_MAX_ENTRIES: '1' });
  for (const token of ['a', 'b']) await sendRequest(url, { token });
  api.behaviour = reviews({ error: 'invalid bearer token' });
  for (const token of ['c', 'd', 'e']) await sendRequest(url, { token });
  const metrics = await scrape();
  for (const line of [
    'gatecar_cache_entries{store="authenticated"} 1',
    'gatecar_cache_entries{store="rejected"} 1',
    'gatecar_cache_evictions_total{store="authenticated",cause="capacity"} 1',
    'gatecar_cache_evictions_total{store="rejected",cause="capacity"} 2',
    'gatecar_reviews_total{outcome="rejected"} 3',
  ]) {
    t.ok(metrics.includes(line), line);
  }
});

t.test('the TTLs of the cache and the review timeout follow the settings', async t => {
  const settings = { GATECAR_CACHE_TTL: '0', GATECAR_CACHE_NEGATIVE_TTL: '0', GATECAR_REVIEW_TIMEOUT: '50ms' };
  const { api, url } = await startApp(t, settings);
  for (let request = 0; request < 2; request += 1) await sendRequest(url, { token: 'abc' });
  t.equal(api.requests.length, 2);
  api.behaviour = reviews({ error: 'invalid bearer token' });
  for (let request = 0; request < 2; request += 1) await sendRequest(url, { token: 'abc' });
  t.equal(api.requests.length, 4);
  api.behaviour = hangs;
  const start = performance.now();
  const { status, body } = await sendRequest(url, { token: 'abc' });
  t.ok(performance.now() - start < 2500, 'well before the default of three seconds');
  t.equal(status, 503);
  t.equal(body, '{"error":"TokenReview API call failed: timeout"}');
});

t.test('review concurrency, queue length and their metrics follow the settings', async t => {
  // Without the pre-check no connection is opened to fetch the cluster's JWKS.
  const settings = {
    GATECAR_REVIEW_MAX_CONCURRENCY: '2',
    GATECAR_REVIEW_MAX_QUEUE: '3',
    GATECAR_JWT_PRECHECK: 'off',
  };
  const { api, url, scrape } = await startApp(t, settings);
  api.behaviour = hangs;
  const waiting = ['a', 'b', 'c', 'd', 'e'].map(token => sendRequest(url, { token }).catch(() => undefined));
  await until(async () => (await scrape()).includes('gatecar_reviews_queued{priority="unverified"} 3'));
  t.ok((await scrape()).includes('gatecar_reviews_in_flight{priority="unverified"} 2'));
  t.equal(api.connections, 2);
  t.match(await sendRequest(url, { token: 'f' }), { status: 503, headers: { 'x-gatecar-reason': 'overloaded' } });
  await api.close();
  await Promise.all(waiting);
});

t.test('the memory budgets are derived from the memory limit, and their use is exported', async t => {
  const { api, url, scrape } = await startApp(t, { GATECAR_MEMORY_LIMIT: '256Mi' });
  api.behaviour = hangs;
  const connectionsBytes = budgetOf(await scrape(), 'bytes', 'connections');
  t.ok(connectionsBytes > 32 * 1024 * 1024 && connectionsBytes < 128 * 1024 * 1024, `${connectionsBytes}`);
  const answer = sendRequest(url, { token: 'a' }).catch(() => undefined);
  await until(async () => budgetOf(await scrape(), 'used_bytes', 'waiting') > 0);
  t.ok(budgetOf(await scrape(), 'used_bytes', 'connections') >= CONNECTION_BYTES.http);
  await api.close();
  await answer;
  await until(async () => budgetOf(await scrape(), 'used_bytes', 'waiting') === 0);
  t.equal(budgetOf(await scrape(), 'used_bytes', 'transfers'), 0);
});

t.test(
  'a request that waits while the memory for waiting requests is full is rejected, logged and counted',
  async t => {
    const { api, url, scrape, lines } = await startApp(t, { GATECAR_MEMORY_LIMIT: '64Mi' });
    api.behaviour = hangs;
    const headers = { 'X-Padding': 'x'.repeat(40_000) };
    const answers = Array.from({ length: 40 }, () => sendRequest(url, { token: 'a', headers }).catch(() => undefined));
    const rejected = (await Promise.race(answers)) ?? {};
    t.match(rejected, { status: 503, headers: { 'x-gatecar-reason': 'overloaded' } });
    t.ok(lines().some(({ cause }) => cause === 'waiting_memory_full'));
    const counter = 'gatecar_reviews_rejected_total{priority="unknown",reason="waiting_memory_full"} ';
    t.match((await scrape()).find(line => line.startsWith(counter))?.slice(counter.length), /^[1-9]/);
    await api.close();
    await Promise.all(answers);
  },
);

/** The value of a budget's gauge. */
function budgetOf(lines: readonly string[], quantity: 'bytes' | 'used_bytes', budget: string): number {
  const name = `gatecar_memory_budget_${quantity}{budget="${budget}"} `;
  return Number(lines.find(line => line.startsWith(name))?.slice(name.length));
}

t.test('tokens that are too long or opaque are rejected without a review and counted', async t => {
  const { api, url, scrape } = await startApp(t, { GATECAR_OPAQUE_TOKENS: 'reject' });
  t.equal((await sendRequest(url, { token: 'opaque' })).status, 401);
  t.equal((await sendRequest(url, { token: 'x'.repeat(20_000) })).status, 401);
  t.equal(api.requests.length, 0);
  t.equal((await sendRequest(url, { token: JWT })).status, 200);
  const metrics = await scrape();
  t.ok(metrics.includes('gatecar_local_rejections_total{reason="opaque"} 1'));
  t.ok(metrics.includes('gatecar_local_rejections_total{reason="length"} 1'));
});

t.test('tokens that fail the pre-check by the cluster’s JWKS are rejected without a review', async t => {
  const issuer = tokenIssuer();
  const apiServer = await startFakeApiServer({ issuer });
  t.teardown(() => apiServer.close());
  const { app, url, scrape, lines } = await startApp(t, { GATECAR_KUBE_API_URL: apiServer.url });
  app.health.start();
  await until(async () => (await scrape()).includes('gatecar_jwks_available 1'));
  const reviews = apiServer.reviews;
  const issue = (more: Partial<TokenRequest> = {}) =>
    issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'], ...more });
  const [header, payload] = issue().split('.');
  const wrongSignature = `${header}.${payload}.${issue().split('.')[2]}`;
  for (const token of [wrongSignature, issue({ expiresInSeconds: -3600 }), issue({ audiences: ['other'] })]) {
    t.match(await sendRequest(url, { token }), { status: 401, headers: { 'x-gatecar-reason': 'token_rejected' } });
  }
  t.equal(apiServer.reviews, reviews, 'no review was sent');
  t.equal((await sendRequest(url, { token: issue() })).status, 200);
  t.equal(apiServer.reviews, reviews + 1, 'only the API server authenticates a token');
  const metrics = await scrape();
  for (const reason of ['signature', 'expired', 'audience']) {
    t.ok(metrics.includes(`gatecar_local_rejections_total{reason="${reason}"} 1`), reason);
  }
  t.notOk(lines().some(({ msg }) => /cannot fetch cluster JWKS/.test(String(msg))));
});

t.test('with signature checks, unverified tokens get a share of the review slots; without, all of them', async t => {
  const { jwks } = tokenIssuer();
  for (const [checks, inFlight] of [
    ['signature', 2],
    ['claims', 8],
    ['off', 8],
  ] as const) {
    const settings = {
      GATECAR_REVIEW_MAX_CONCURRENCY: '8',
      GATECAR_JWT_PRECHECK: checks,
      GATECAR_REVIEW_MAX_QUEUE: '40',
    };
    const { app, api, url, scrape } = await startApp(t, settings);
    Object.assign(api.documents, { '/.well-known/openid-configuration': { issuer: 'i' }, '/openid/v1/jwks': jwks });
    app.health.start();
    await until(() => app.health.apiServerUp);
    if (checks !== 'off') await until(async () => (await scrape()).includes('gatecar_jwks_available 1'));
    const held = heldBack(accepts());
    api.behaviour = held.behaviour;
    const waiting = Array.from({ length: 10 }, (_, index) => sendRequest(url, { token: `opaque-${index}` }));
    const line = `gatecar_reviews_queued{priority="unverified"} ${10 - inFlight}`;
    await until(async () => (await scrape()).includes(line));
    t.ok((await scrape()).includes(`gatecar_reviews_in_flight{priority="unverified"} ${inFlight}`), checks);
    held.letGo();
    await Promise.all(waiting);
  }
});

t.test('while a valid token is in use, rejections wait for the throttle, and its requests overtake them', async t => {
  const { api, url } = await startApp(t, { GATECAR_REVIEW_MAX_CONCURRENCY: '64' });
  const sendValid = async () => t.equal((await sendRequest(url, { token: 'valid' })).status, 200);
  await sendValid();
  const held = heldBack(reviews({ error: 'invalid bearer token' }));
  api.behaviour = held.behaviour;
  let answered = 0;
  const rejections = Array.from({ length: 40 }, async (_, index) => {
    const { status } = await sendRequest(url, { token: `invalid-${index}` });
    answered += 1;
    return status;
  });
  await until(() => api.requests.length === 41);
  await sendValid();
  held.letGo();
  for (let request = 0; request < 5; request += 1) await sendValid();
  t.ok(answered < 40, `${answered} rejections were answered before`);
  t.strictSame(new Set(await Promise.all(rejections)), new Set([401]));
});

t.test('a JWKS that cannot be fetched is logged once, and tokens are still reviewed', async t => {
  const { app, api, lines, url, scrape } = await startApp(t);
  app.health.start();
  const readable = (value: number) => async () => (await scrape()).includes(`gatecar_jwks_available ${value}`);
  await until(readable(0));
  t.equal((await sendRequest(url, { token: JWT })).status, 200, 'the token is reviewed');
  t.match(
    lines().filter(({ msg }) => /JWKS/.test(String(msg))),
    [{ level: 'warn', problem: 'GET /.well-known/openid-configuration: HTTP 404' }],
  );
  t.equal(api.requests.length, 1);
});

t.test('with stale-if-error a cached token stays allowed during an outage, marked as stale and logged', async t => {
  const settings = {
    GATECAR_CACHE_STALE_IF_ERROR: '1m',
    GATECAR_CACHE_TTL: '50ms',
    GATECAR_CACHE_REFRESH_AHEAD: 'false',
  };
  const { app, api, url, lines, scrape } = await startApp(t, settings);
  app.health.start();
  t.equal((await sendRequest(url, { token: 'cached' })).status, 200);
  api.behaviour = answers(500, 'boom');
  await until(async () => (await sendRequest(url, { token: 'cached' })).headers['x-gatecar-stale'] !== undefined);
  for (let request = 0; request < 3; request += 1) {
    t.match(await sendRequest(url, { token: 'cached' }), { status: 200, headers: { 'x-gatecar-stale': '0' } });
  }
  t.match(await sendRequest(url, { token: 'uncached' }), { status: 503 });
  t.ok((await scrape()).includes('gatecar_serving_stale 1'));
  t.notOk((await scrape()).includes('gatecar_cache_lookups_total{result="stale"} 0'));
  api.behaviour = accepts();
  await until(() => app.health.apiServerUp);
  const reply = await sendRequest(url, { token: 'cached' });
  t.match(reply, { status: 200 });
  t.equal(reply.headers['x-gatecar-stale'], undefined);
  t.match(
    lines().filter(({ msg }) => /^(serving|stopped serving) stale results/.test(String(msg))),
    [{ level: 'warn' }, { level: 'info' }],
  );
});

t.test('a review failure of an unverified token does not let stale-if-error allow a revoked token', async t => {
  const settings = {
    GATECAR_CACHE_STALE_IF_ERROR: '1m',
    GATECAR_CACHE_TTL: '20ms',
    GATECAR_CACHE_REFRESH_AHEAD: 'false',
    GATECAR_REVIEW_TIMEOUT: '1s',
  };
  const { app, api, url, scrape } = await startApp(t, settings);
  const issuer = tokenIssuer();
  api.documents['/.well-known/openid-configuration'] = { issuer: ISSUER };
  api.documents['/openid/v1/jwks'] = issuer.jwks;
  app.health.start();
  await until(async () => {
    // Requests trigger another JWKS fetch, in case the first one was too slow.
    await sendRequest(url, { token: 'any' });
    return (await scrape()).includes('gatecar_jwks_available 1');
  });
  const token = issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
  t.equal((await sendRequest(url, { token })).status, 200);
  // As with a slow token webhook: reviews of its tokens hang, but other tokens are still rejected.
  const rejects = reviews({ authenticated: false });
  api.behaviour = (request, response) => (request.token === 'opaque' ? hangs : rejects)(request, response);
  t.equal((await sendRequest(url, { token: 'opaque' })).status, 503);
  t.notOk(app.health.apiServerUp);
  t.match(await sendRequest(url, { token }), { status: 401, headers: { 'x-gatecar-reason': 'token_rejected' } });
});

t.test('both allowlists are evaluated on each request, not cached', async t => {
  const account = 'system:serviceaccount:default:my-app';
  const cases: [settings: Record<string, string>, status: number, reason: string | undefined][] = [
    [{ GATECAR_ALLOWED_NAMESPACES: 'default' }, 200, undefined],
    [{ GATECAR_ALLOWED_NAMESPACES: 'ci' }, 401, 'namespace_denied'],
    [{ GATECAR_ALLOWED_SERVICE_ACCOUNTS: account }, 200, undefined],
    [{ GATECAR_ALLOWED_SERVICE_ACCOUNTS: `${account}-2` }, 401, 'service_account_denied'],
  ];
  for (const [settings, status, reason] of cases) {
    const { url, api } = await startApp(t, settings);
    for (let request = 0; request < 2; request += 1) {
      const reply = await sendRequest(url, { token: 'abc' });
      t.equal(reply.status, status);
      t.equal(reply.headers['x-gatecar-reason'], reason);
    }
    t.equal(api.requests.length, 1);
  }
});

t.test('header prefix, error detail and unavailable status of responses follow the settings', async t => {
  const settings = {
    GATECAR_IDENTITY_HEADER_PREFIX: 'X-Id-',
    GATECAR_ERROR_DETAIL: 'generic',
    GATECAR_UNAVAILABLE_STATUS: '403',
    GATECAR_CACHE_TTL: '0',
  };
  const { api, url } = await startApp(t, settings);
  t.match((await sendRequest(url, { token: 'abc' })).headers, { 'x-id-user': 'system:serviceaccount:default:my-app' });
  await api.close();
  t.match(await sendRequest(url, { token: 'abc' }), { status: 403, body: '{"error":"Forbidden"}' });
});

t.test('forwarded values of a trusted proxy are logged, whatever the case of the header setting', async t => {
  const settings = { GATECAR_TRUSTED_PROXIES: '127.0.0.1', GATECAR_CLIENT_IP_HEADER: 'X-Real-IP' };
  const headers = { 'X-Real-IP': '203.0.113.7', 'X-Original-URI': '/app' };
  const trusted = await startApp(t, settings);
  await sendRequest(trusted.url, { headers });
  t.match(trusted.lines(), [{ msg: 'denied', clientAddress: '203.0.113.7', uri: '/app' }]);
  const untrusted = await startApp(t);
  await sendRequest(untrusted.url, { headers });
  t.equal(untrusted.lines()[0]?.['clientAddress'], '127.0.0.1');
  t.notOk('uri' in (untrusted.lines()[0] ?? {}));
});

t.test('an error in writing the decision log is logged and does not change the response', async t => {
  const { log, url, lines } = await startApp(t);
  const info = log.info;
  log.info = (...args: unknown[]) => {
    if (args.at(-1) === 'denied') throw new Error('the disk is full');
    Reflect.apply(info, log, args);
  };
  t.equal((await sendRequest(url)).status, 401);
  t.match(lines(), [{ level: 'error', msg: /^internal error/, err: { message: 'the disk is full' } }]);
});

t.test('draining closes HTTP connections after each response and makes HTTP and gRPC unready', async t => {
  const { app, url } = await startApp(t, { GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  const envoy = envoyClient(String(await app.grpc?.listen({ host: '127.0.0.1', port: 0 })));
  t.teardown(() => envoy.close());
  t.teardown(() => app.grpc?.destroy());
  t.equal((await app.ops.inject('/readyz')).statusCode, 503, 'no review has succeeded yet');
  const served: boolean[] = [];
  Object.assign(app.grpc ?? {}, { setServing: (serving: boolean) => served.push(serving) });
  app.health.start();
  await until(() => app.health.ready);
  t.equal((await app.ops.inject('/readyz')).statusCode, 200);
  t.equal((await envoy.checkHeaders({ authorization: 'Bearer abc' })).status.code, 0);
  const headers = { Connection: 'keep-alive' };
  t.equal((await sendRequest(url, { headers })).headers['connection'], 'keep-alive');
  app.drain();
  t.equal((await sendRequest(url, { headers })).headers['connection'], 'close');
  t.equal((await app.ops.inject('/readyz')).statusCode, 503);
  t.strictSame(served, [true, false]);
});

t.test('closing logs the suppressed lines and sends no more reviews', async t => {
  const { app, api, url, lines } = await startApp(t, {}, 'info');
  for (let request = 0; request < 15; request += 1) await sendRequest(url);
  t.equal(lines().length, 10);
  t.equal((await sendRequest(url, { token: 'abc' })).status, 200);
  const { health } = app;
  const stop = health.stop;
  let stopped = false;
  Object.assign(health, {
    stop() {
      stopped = true;
      stop();
    },
  });
  await app.close();
  t.ok(stopped, 'the readiness probe is stopped');
  t.match(lines().at(-1), { msg: 'repeated log lines suppressed', reason: 'credentials_missing', suppressed: 5 });
  t.equal((await sendRequest(url, { token: 'uncached' })).status, 503);
  t.equal(api.requests.length, 1);
});

t.test('format-only mode is ready and exports no API server metric', async t => {
  const app = await createApp(
    readConfig([], { GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:0' }),
    NOWHERE,
    logger('silent'),
  );
  t.teardown(() => app.ops.close());
  app.health.start();
  t.equal((await app.ops.inject('/readyz')).statusCode, 200);
  t.equal(app.grpc, undefined);
  const metrics = (await app.ops.inject('/metrics')).body;
  t.notMatch(metrics, /^gatecar_apiserver_up \d/m);
  await app.close();
});

t.test('the API server and its credential are chosen by settings and environment', async t => {
  const inCluster: RuntimeEnvironment = { inCluster: POD, homeDirectory: undefined };
  const https = 'https://127.0.0.1:1';

  t.test('GATECAR_KUBE_API_URL takes precedence over a kubeconfig and the pod’s environment', async t => {
    const settings = { GATECAR_KUBE_API_URL: 'http://127.0.0.1:1', GATECAR_KUBECONFIG: '/not/there' };
    t.equal(await problem(t, settings, inCluster), 'connection refused (ECONNREFUSED)');
  });

  t.test('the description names the source that is used', async t => {
    const home: RuntimeEnvironment = { inCluster: undefined, homeDirectory: '/home/me' };
    const describe = (settings: Record<string, string>, environment: RuntimeEnvironment) =>
      describeApiServer(readConfig([], settings), environment);
    t.equal(describe({ GATECAR_KUBE_API_URL: https, GATECAR_KUBECONFIG: '/a' }, inCluster), https);
    t.equal(describe({ GATECAR_KUBECONFIG: '/a:/b' }, inCluster), 'kubeconfig /a:/b');
    t.equal(describe({}, inCluster), 'in-cluster');
    t.equal(describe({}, home), 'kubeconfig /home/me/.kube/config');
    t.equal(describe({ GATECAR_KUBE_CONTEXT: 'x' }, { ...home, inCluster: POD }), 'kubeconfig /home/me/.kube/config');
    t.equal(describe({}, NOWHERE), 'none');
    t.equal(describe({ GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:0' }, inCluster), undefined);
  });

  t.test('an https GATECAR_KUBE_API_URL in a pod uses the pod’s token and CA', async t => {
    const settings = { GATECAR_KUBE_API_URL: https };
    t.equal(await problem(t, settings, inCluster), `CA file ${IN_CLUSTER_CA_FILE} cannot be read: ENOENT`);
    const caFile = join(tempDir(t, { 'ca.crt': 'CA' }), 'ca.crt');
    const withCa = { ...settings, GATECAR_KUBE_CA_FILE: caFile };
    t.equal(await problem(t, withCa, inCluster), `token file ${IN_CLUSTER_TOKEN_FILE} cannot be read: ENOENT`);
    t.equal(await problem(t, settings, NOWHERE), 'connection refused (ECONNREFUSED)');
  });

  t.test('a plain http GATECAR_KUBE_API_URL receives no token unless a token file is set', async t => {
    const api = await startStandIn(accepts());
    t.teardown(() => api.close());
    const probes: (string | undefined)[] = [];
    api.behaviour = (request, response) => {
      probes.push(request.headers.authorization);
      accepts()(request, response);
    };
    const settings = { GATECAR_KUBE_API_URL: api.url };
    t.equal(await problem(t, settings, inCluster), 'none');
    const tokenFile = join(tempDir(t, { token: 'own' }), 'token');
    t.equal(await problem(t, { ...settings, GATECAR_KUBE_TOKEN_FILE: tokenFile }, inCluster), 'none');
    t.strictSame(probes, [undefined, 'Bearer own']);
  });

  t.test('GATECAR_KUBECONFIG takes precedence over the pod’s ServiceAccount', async t => {
    const settings = { GATECAR_KUBECONFIG: '/not/there' };
    t.equal(await problem(t, settings, inCluster), 'kubeconfig /not/there cannot be read: ENOENT');
  });

  t.test('GATECAR_KUBE_TOKEN_FILE and GATECAR_KUBE_CA_FILE override those of the kubeconfig', async t => {
    const file = join(tempDir(t, { config: kubeconfig() }), 'config');
    for (const name of ['TOKEN', 'CA']) {
      const settings = { GATECAR_KUBECONFIG: file, [`GATECAR_KUBE_${name}_FILE`]: '/not/there' };
      t.equal(await problem(t, settings, NOWHERE), `${name === 'CA' ? 'CA' : 'token'} file cannot be read: ENOENT`);
    }
  });

  t.test('in a pod the mounted ServiceAccount is used, and token and CA file settings override its files', async t => {
    const home: RuntimeEnvironment = { inCluster: POD, homeDirectory: '/not/there' };
    t.equal(await problem(t, {}, home), `CA file ${IN_CLUSTER_CA_FILE} cannot be read: ENOENT`);
    const directory = tempDir(t, { 'ca.crt': 'CA', token: 'own' });
    const ca = { GATECAR_KUBE_CA_FILE: join(directory, 'ca.crt') };
    t.equal(await problem(t, ca, home), `token file ${IN_CLUSTER_TOKEN_FILE} cannot be read: ENOENT`);
    const both = { ...ca, GATECAR_KUBE_TOKEN_FILE: join(directory, 'token') };
    t.match(await problem(t, both, home), /^connection refused/);
  });

  t.test('the kubeconfig of the home directory is used outside of pods, and in a pod if a context is set', async t => {
    const homeDirectory = tempDir(t);
    mkdirSync(join(homeDirectory, '.kube'));
    const api: StandIn = await startStandIn(accepts());
    t.teardown(() => api.close());
    writeFileSync(join(homeDirectory, '.kube/config'), kubeconfig({ cluster: { server: api.url } }));
    t.equal(await problem(t, {}, { inCluster: undefined, homeDirectory }), 'none');
    const context = { GATECAR_KUBE_CONTEXT: 'staging' };
    const missing = 'kubeconfig: there is no context "staging"';
    t.equal(await problem(t, context, { inCluster: POD, homeDirectory }), missing);
    t.equal(
      await problem(t, { ...context, GATECAR_KUBECONFIG: join(homeDirectory, '.kube/config') }, NOWHERE),
      missing,
    );
    for (const name of ['TOKEN', 'CA']) {
      const settings = { [`GATECAR_KUBE_${name}_FILE`]: '/not/there' };
      t.match(await problem(t, settings, { inCluster: undefined, homeDirectory }), 'file cannot be read: ENOENT');
    }
  });

  t.test('the readiness probe has the review timeout', async t => {
    const api = await startStandIn(hangs);
    t.teardown(() => api.close());
    t.equal(await problem(t, { GATECAR_KUBE_API_URL: api.url, GATECAR_REVIEW_TIMEOUT: '50ms' }, NOWHERE), 'timeout');
  });

  t.test('without any source no API server address is guessed', async t => {
    t.equal(await problem(t, {}, NOWHERE), 'no API server is known: set GATECAR_KUBECONFIG or GATECAR_KUBE_API_URL');
  });
});

t.test('a connection beyond GATECAR_MAX_CONNECTIONS is counted, over HTTP and gRPC', async t => {
  const { app, url, scrape } = await startApp(t, { GATECAR_MAX_CONNECTIONS: '1', GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  const grpc = await app.grpc?.listen({ host: '127.0.0.1', port: 0 });
  t.teardown(() => app.grpc?.destroy());
  const sockets = [url, `http://${grpc}`].map(base =>
    [0, 1].map(() => connect(Number(new URL(base).port), '127.0.0.1')),
  );
  await until(async () => {
    const metrics = await scrape();
    return ['http', 'grpc'].every(protocol =>
      metrics.includes(`gatecar_connections_rejected_total{protocol="${protocol}"} 1`),
    );
  });
  for (const socket of sockets.flat()) socket.destroy();
});

t.test('the ops listener has 64 connections outside the budget, and counts those that it closes', async t => {
  const { app, scrape } = await startApp(t);
  await app.ops.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.ops.server.address() as AddressInfo;
  const sockets = Array.from({ length: 65 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  await until(async () => (await scrape()).includes('gatecar_connections_rejected_total{protocol="ops"} 1'));
  t.equal(
    budgetOf(await scrape(), 'used_bytes', 'connections'),
    0,
    'ops connections do not use the budget of the other listeners',
  );
});

t.test('a request to another path than /auth is logged', async t => {
  const { url, lines } = await startApp(t);
  t.equal((await sendRequest(url, { path: '/?x=y' })).status, 404);
  t.match(
    lines().find(({ msg }) => String(msg).startsWith('unknown path')),
    { level: 'warn', path: '/' },
  );
});

t.test('each path that /statusz lists answers', async t => {
  const { app } = await startApp(t);
  const { body } = await app.ops.inject('/statusz');
  const paths = /^Paths: (.+)$/m.exec(body)?.[1]?.split(' ') ?? [];
  t.ok(paths.length > 1);
  for (const path of paths) t.not((await app.ops.inject(path)).statusCode, 404, path);
});

t.test('an app with TLS serves no plain HTTP, and invalid TLS files prevent its start', async t => {
  const { settings, paths } = await listenerFiles(t);
  const { app, url } = await startApp(t, settings);
  await t.rejects(sendRequest(url, { token: 'abc' }), 'plain HTTP is not answered');
  await app.close();
  const config = readConfig([], { ...settings, GATECAR_TLS_KEY_FILE: paths.certFile });
  await t.rejects(createApp(config, NOWHERE, logger('silent')), { name: 'TlsFileError' });
});

t.test('a client beyond its failure limit is rejected without a review', async t => {
  const { api, url } = await startApp(t, {
    GATECAR_CLIENT_FAILURE_LIMIT: '1/60m',
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
    GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
  });
  const from = async (client: string, token: string) =>
    (await sendRequest(url, { token, headers: { 'X-Real-IP': client } })).headers['x-gatecar-reason'];
  api.behaviour = reviews({ error: 'invalid bearer token' });
  t.equal(await from('192.0.2.1', 'a'), 'token_rejected');
  t.equal(await from('192.0.2.1', 'b'), 'too_many_failures');
  t.equal(await from('192.0.2.2', 'c'), 'token_rejected');
  t.equal(api.requests.length, 2);
});

t.test('with GATECAR_AUDIT_LOG=all each decision is audited', async t => {
  const { url, lines } = await startApp(t, { GATECAR_AUDIT_LOG: 'all' });
  await sendRequest(url, { token: JWT });
  await sendRequest(url);
  t.match(
    lines().filter(({ audit }) => audit),
    [
      { decision: 'allow', source: 'review' },
      { decision: 'deny', reason: 'credentials_missing', source: 'local' },
    ],
  );
});

t.test('with tracing enabled, requests and reviews have spans, and log lines name them', async t => {
  const receiver = await startOtlpReceiver();
  t.teardown(() => receiver.close());
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = receiver.url;
  t.teardown(() => {
    delete process.env['OTEL_EXPORTER_OTLP_ENDPOINT'];
  });
  const tracing = readTracingSettings(process.env);
  const { app, url, lines } = await startApp(t, { GATECAR_AUDIT_LOG: 'all' }, 'debug', { ...NOWHERE, tracing });
  await sendRequest(url, { token: 'good' });
  await app.close();
  const request = receiver.spans.find(({ name }) => name === 'authorize');
  t.match(receiver.spans.find(({ name }) => name === 'TokenReview')?.parentId, request?.spanId);
  const traced = lines().filter(line => line['span_id'] === request?.spanId);
  t.match(traced, [{ msg: 'allowed' }, { audit: true, source: 'review' }]);
});

t.test('the in-cluster address is read from the environment that the kubelet sets', async t => {
  t.strictSame(inClusterAddress({ KUBERNETES_SERVICE_HOST: '10.0.0.1', KUBERNETES_SERVICE_PORT: '443', HOME: '/' }), {
    host: '10.0.0.1',
    port: '443',
  });
  t.equal(inClusterAddress({ KUBERNETES_SERVICE_PORT: '443' }), undefined);
});

t.test('the ops listener closes its oldest connections without a request beyond 64 connections', async t => {
  const { app, scrape } = await startApp(t);
  await listen(app.ops, address.parse('127.0.0.1:0') as Address, 'X');
  const { port } = app.ops.server.address() as AddressInfo;
  const sockets: Socket[] = [];
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    app.ops.server.close();
  });
  for (let opened = 0; opened < 66; opened += 1) {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    await once(socket, 'connect');
    sockets.push(socket.resume());
  }
  await until(() => sockets.filter(socket => socket.destroyed).length === 2);
  t.ok(sockets[0]?.destroyed && sockets[1]?.destroyed);
  t.ok((await scrape()).includes('gatecar_connections_rejected_total{protocol="ops"} 2'));
  for (const socket of sockets) socket.destroy();
});

t.test('while the event loop lags, a new token is rejected as overloaded, and that is counted', async t => {
  const { url, scrape } = await startApp(t);
  const timer = setInterval(() => {
    const end = performance.now() + 300;
    while (performance.now() < end);
  }, 0);
  t.teardown(() => clearInterval(timer));
  let requests = 0;
  const reasonOfNewToken = async () => {
    requests += 1;
    return (await sendRequest(url, { token: `token-${requests}` })).headers['x-gatecar-reason'];
  };
  await until(async () => (await reasonOfNewToken()) === 'overloaded');
  clearInterval(timer);
  t.match(
    (await scrape()).join('\n'),
    /^gatecar_reviews_rejected_total\{priority="unknown",reason="event_loop_lag"\} [1-9]/m,
  );
});
