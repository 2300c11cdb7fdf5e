import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { sendRequest } from '../fixtures/send-request.ts';
import { accepts, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { caddyExample, startCaddy } from './fixtures/support/caddy.ts';
import { type EnvoyExample, envoyExample, startEnvoy } from './fixtures/support/envoy.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { listening, newNeighbours } from './fixtures/support/gateway-suite.ts';
import type { Neighbours } from './fixtures/support/gateway-under-test.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';

// Large request bodies behind real gateways. An Envoy with `failure_mode_allow: true` allows a
// request if its call to gatecar fails in any way. A lost decision would then pass a request
// without a credential.

const MIB = 1024 * 1024;
const ROUNDS = 200;
const TOKEN = 'good-token';
const audiences = ['bindcar'];

t.setTimeout(280_000);

/** Starts an application that returns the length of the body and the user of each request. */
async function startCounter(t: Test) {
  const server = createServer((request, response) => {
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.on('end', () => {
      counter.requests += 1;
      response.end(`${bytes} bytes for ${request.headers['x-auth-request-user'] ?? 'no user'}`);
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const counter = { url, requests: 0 };
  return counter;
}

/**
 * Starts gatecar, an application behind it, and an API server that accepts {@link TOKEN} only.
 */
async function startNeighbours(t: Test) {
  const authenticated = accepts({ audiences });
  const rejected = reviews({ error: 'invalid bearer token' });
  const standIn = await startStandIn((request, response) =>
    // The readiness probe may get either response.
    (request.token === TOKEN ? authenticated : rejected)(request, response),
  );
  t.teardown(() => standIn.close());
  const application = await startCounter(t);
  const neighbours = await newNeighbours({ ...application, status: 200, requests: [] });
  const gatecar = await startGatecar(t, {
    ...listening(neighbours),
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_LOG_LEVEL: 'info',
    GATECAR_CACHE_TTL: '1m',
  });
  return { application, neighbours, gatecar };
}

/** Changes the example to allow requests if gatecar cannot be called. */
function failingOpen(config: string): string {
  return replaceOnce(config, 'failure_mode_allow: false', 'failure_mode_allow: true');
}

/** Changes the example to send bodies to gatecar. */
async function withBodies(example: EnvoyExample, maxBytes: number): Promise<string> {
  let config = await envoyExample(example);
  const body = `with_request_body: { max_request_bytes: ${maxBytes}, pack_as_bytes: true }`;
  config = replaceOnce(config, 'validate_mutations: true', `validate_mutations: true\n${' '.repeat(22)}${body}`);
  config = replaceOnce(
    config,
    '- name: public',
    `- name: public\n      per_connection_buffer_limit_bytes: ${4 * maxBytes}`,
  );
  for (const cluster of ['gatecar', 'application']) {
    config = replaceOnce(
      config,
      `    - name: ${cluster}\n`,
      `    - name: ${cluster}\n      per_connection_buffer_limit_bytes: ${4 * maxBytes}\n`,
    );
  }
  return config;
}

/** Sends an upload, and summarises the response. */
async function outcome(url: string, bytes: number, token?: string): Promise<string> {
  const request = { method: 'POST', path: '/upload', body: 'x'.repeat(bytes), ...(token !== undefined && { token }) };
  return await sendRequest(url, request).then(
    ({ status, body }) => (status === 200 ? `200, ${body}` : `${status}`),
    (error: Error & { code?: string }) => error.code ?? error.message,
  );
}

/**
 * The summary for a request that gatecar allowed. If Envoy allowed it by itself, it has no user.
 */
function allowed(bytes: number): string {
  return `200, ${bytes} bytes for system:serviceaccount:default:my-app`;
}

/** Counts equal outcomes. */
function tally(outcomes: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

for (const [protocol, example] of [
  ['HTTP', 'envoy-http'],
  ['gRPC', 'envoy-grpc'],
] as const) {
  t.test(
    `an Envoy that fails open and calls gatecar over ${protocol} with the body loses no decision`,
    { skip: skipWithout(gatewayMissing('envoy')) },
    async t => {
      const { application, neighbours } = await startNeighbours(t);
      for (const maxMib of [8, 16]) {
        const { url } = await startEnvoy(t, failingOpen(await withBodies(example, maxMib * MIB)), neighbours);
        const sizes = [1, 2, 3, 4, 4.5, 5, 6, 8, 10, 12, 14, 16].filter(size => size <= maxMib).map(size => size * MIB);
        t.test(`a body of up to ${maxMib} MiB without a token, over ${protocol}, is always denied`, async t => {
          const before = application.requests;
          for (const bytes of sizes) {
            const outcomes: string[] = [];
            for (let round = 0; round < 8; round += 1) outcomes.push(await outcome(url, bytes));
            t.strictSame(tally(outcomes), { 401: 8 }, `${bytes / MIB} MiB`);
          }
          t.equal(application.requests, before, 'the application receives no request');
        });
        t.test(`a body of up to ${maxMib} MiB with a valid token, over ${protocol}, is always allowed`, async t => {
          for (const bytes of sizes) {
            const outcomes: string[] = [];
            for (let round = 0; round < 8; round += 1) outcomes.push(await outcome(url, bytes, TOKEN));
            t.strictSame(tally(outcomes), { [allowed(bytes)]: 8 }, `${bytes / MIB} MiB`);
          }
        });
      }
    },
  );
}

/** Sizes of the uploads, below and above the part of an unneeded body that gatecar reads. */
const UPLOADS = [0.25, 0.9, 1.1, 2, 4, 7].map(size => Math.round(size * MIB));

const GATEWAYS = {
  'Envoy over HTTP': {
    missing: gatewayMissing('envoy'),
    readsDenied: true,
    start: async (t: Test, neighbours: Neighbours) =>
      startEnvoy(t, await withBodies('envoy-http', 16 * MIB), neighbours),
  },
  nginx: {
    missing: nginxMissing(),
    readsDenied: true,
    start: async (t: Test, { gatecar, application }: Neighbours) => {
      const config = await exampleConfig([`http://${gatecar}`], `http://${application}`);
      return await startNginx(t, replaceOnce(config, 'listen 8080;', 'listen 8080; client_max_body_size 32m;'));
    },
  },
  Caddy: {
    missing: gatewayMissing('caddy'),
    // Go's server reads 256 KiB of a body that its handler has not read. Then it resets the
    // connection of a client that still sends.
    readsDenied: false,
    start: async (t: Test, neighbours: Neighbours) => startCaddy(t, await caddyExample(), neighbours),
  },
};

for (const [name, { missing, start, readsDenied }] of Object.entries(GATEWAYS)) {
  t.test(
    `${ROUNDS} rounds of large uploads through ${name}: no reset, no wrong status`,
    { skip: skipWithout(missing) },
    async t => {
      const { neighbours } = await startNeighbours(t);
      const { url } = await start(t, neighbours);
      const unexpected: string[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        const bytes = UPLOADS[round % UPLOADS.length] ?? MIB;
        // Every fourth request has no valid token.
        const isAllowed = round % 4 !== 3 || !readsDenied;
        const result = await outcome(url, bytes, isAllowed ? TOKEN : 'bad-token');
        if (result !== (isAllowed ? allowed(bytes) : '401'))
          unexpected.push(`round ${round}, ${bytes / MIB} MiB: ${result}`);
      }
      t.strictSame(unexpected, []);
    },
  );
}
