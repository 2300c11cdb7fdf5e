import process from 'node:process';
import { Client, credentials, type MethodDefinition, Server, ServerCredentials } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import t, { type Test } from 'tap';
import { CheckRequest } from '../../src/gateway/grpc/message/check-request.ts';
import { LargeMessage } from '../../src/gateway/grpc/message/large-message.ts';
import { ENVOY_INCLUDES } from '../fixtures/envoy-client.ts';
import { type Seeded, seeded } from '../fixtures/seeded-random.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { accepts, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { startApplication } from './fixtures/support/application.ts';
import { envoyExample, startEnvoy } from './fixtures/support/envoy.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { listening, newNeighbours } from './fixtures/support/gateway-suite.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';

// gatecar and protobufjs must read the output of Envoy's own encoder alike. Both get the same
// bytes.

const SEED = Number(process.env['GATECAR_FUZZ_SEED'] ?? 20_240_601);
const REQUESTS = 150;
/** gatecar reads a longer message in pieces. */
const LARGE_BYTES = 64 * 1024;

interface Pair {
  readonly key: string;
  readonly value: string;
  readonly raw_value: Buffer;
}
interface Official {
  readonly attributes: {
    readonly source: { readonly address: { readonly socket_address: { readonly address: string } } };
    readonly request: {
      readonly http: {
        readonly id: string;
        readonly method: string;
        readonly path: string;
        readonly headers: Record<string, string>;
        readonly header_map: { readonly headers: readonly Pair[] } | null;
        readonly body: string;
        readonly raw_body: Buffer;
      };
    };
  };
}

const loaded = loadSync('envoy/service/auth/v3/external_auth.proto', {
  keepCase: true,
  defaults: true,
  longs: Number,
  enums: Number,
  includeDirs: [...ENVOY_INCLUDES],
});
const { Check } = loaded['envoy.service.auth.v3.Authorization'] as unknown as {
  Check: MethodDefinition<unknown, unknown>;
};
const latin1 = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
const sorted = (pairs: readonly (readonly [string, string])[]): string[] =>
  pairs.map(pair => JSON.stringify(pair)).sort();

/** Decodes with protobufjs and the official files; strings become bytes. */
function readByProtobufjs(bytes: Buffer) {
  const { source, request } = (Check.requestDeserialize(bytes) as Official).attributes;
  const { id, method, path, headers, header_map } = request.http;
  const raw = (header_map?.headers ?? []).map(
    ({ key, value, raw_value }) => [latin1(key), latin1(value) || raw_value.toString('latin1')] as const,
  );
  const merged = Object.entries(headers).map(([name, value]) => [latin1(name), latin1(value)] as const);
  return {
    id: latin1(id),
    method: latin1(method),
    path: latin1(path),
    address: source.address.socket_address.address,
    headers: sorted([...merged, ...raw]),
  };
}

function readByGatecar(bytes: Buffer) {
  const request = new CheckRequest(bytes);
  const { headers, ...rest } = request.details;
  const pairs = headers.flatMap((name, i) => (i % 2 === 0 ? [[name, headers[i + 1] ?? ''] as const] : []));
  const credentials = pairs.filter(([name]) => name.toLowerCase() === 'authorization').flat();
  return {
    ...rest,
    address: request.address,
    headers: sorted(pairs),
    isSame: same(credentials, request.authorization),
  };
}

function same(first: readonly string[], second: readonly string[]): boolean {
  return JSON.stringify(first) === JSON.stringify(second);
}

function inPieces(bytes: Buffer): Buffer {
  const large = new LargeMessage(bytes.length);
  for (let from = 0; from < bytes.length; from += 16_384) large.add(bytes.subarray(from, from + 16_384));
  return large.take();
}

/** Forwards calls of `Check` to gatecar and records their bytes. */
async function startRelay(t: Test, address: string, gatecar: string): Promise<Buffer[]> {
  const messages: Buffer[] = [];
  const asBytes = (bytes: Buffer): Buffer => bytes;
  const client = new Client(gatecar, credentials.createInsecure(), { 'grpc.max_send_message_length': -1 });
  const server = new Server({ 'grpc.max_receive_message_length': -1 });
  const raw = { ...Check, requestSerialize: asBytes, requestDeserialize: asBytes };
  server.addService(
    { Check: { ...raw, responseSerialize: asBytes, responseDeserialize: asBytes } },
    {
      Check(call: { request: Buffer }, done: (error: Error | null, answer?: Buffer) => void) {
        messages.push(call.request);
        client.makeUnaryRequest(Check.path, asBytes, asBytes, call.request, done);
      },
    },
  );
  await new Promise((resolve, reject) =>
    server.bindAsync(address, ServerCredentials.createInsecure(), error =>
      error ? reject(error) : resolve(undefined),
    ),
  );
  t.teardown(() => {
    server.forceShutdown();
    client.close();
  });
  return messages;
}

function randomRequest(random: Seeded) {
  const pieces = ['a', 'Z', '9', ' ', '%41', ',', ';', '=', '"', '\xe9', '\xff', '\t', '/', '~'] as const;
  const text = () => random.text(pieces, 8).trim();
  const headers: Record<string, string | string[]> = {};
  for (let left = random.below(12); left > 0; left -= 1) {
    headers[random.pick(['x-a', 'X-B', 'x-authorization', 'cookie', 'x-empty', 'accept', 'user-agent'])] = text();
  }
  if (random.below(4) === 0) headers['x-list'] = [text(), text(), 'a'];
  const credential = random.pick([
    undefined,
    'Bearer good',
    'Bearer good',
    'bearer good',
    'Bearer bad',
    'Basic YTpi',
    '',
  ]);
  const name = random.pick(['authorization', 'Authorization', 'AUTHORIZATION']);
  if (credential !== undefined) headers[name] = random.below(6) === 0 ? [credential, 'Bearer good'] : credential;
  const method = random.pick(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND']);
  const path = `/${random.text(['a', 'b/', '%41', '?', 'q=1', '&', '~', '%20'], 9)}`;
  const body = 'b'.repeat(random.pick([0, 0, 1, 5_000, 150_000]));
  if (body !== '' && random.below(3) === 0) headers['transfer-encoding'] = 'chunked';
  else if (body !== '') headers['content-length'] = String(body.length);
  return { method, path, headers, ...(body !== '' && { body }) };
}

const example = (await envoyExample('envoy-grpc')).replace(/ {22}allowed_headers:\n( {24}.*\n)+/, '');
const bodies = 'with_request_body: { max_request_bytes: 200000, allow_partial_message: true';
const variant = (raw: boolean, packed: boolean): string =>
  replaceOnce(
    example,
    'encode_raw_headers: true',
    `encode_raw_headers: ${raw}\n${' '.repeat(22)}${bodies}, pack_as_bytes: ${packed} }`,
  );

t.test("Envoy's checks are read as protobufjs reads them", { skip: skipWithout(gatewayMissing('envoy')) }, async t => {
  const standIn = await startStandIn((request, response) => {
    const behaviour = request.token === 'good' ? accepts() : reviews({ error: 'invalid bearer token' });
    behaviour(request, response);
  });
  t.teardown(() => standIn.close());
  for (const [raw, packed] of [
    [true, false],
    [false, true],
  ] as const) {
    await t.test(
      `Envoy’s checks with encode_raw_headers: ${raw} and pack_as_bytes: ${packed} are read as by protobufjs`,
      async t => {
        const application = await startApplication(t);
        const neighbours = await newNeighbours(application);
        await startGatecar(t, { ...listening(neighbours), GATECAR_KUBE_API_URL: standIn.url });
        const relay = (await newNeighbours(application)).grpc;
        const messages = await startRelay(t, relay, neighbours.grpc);
        const envoy = await startEnvoy(t, variant(raw, packed), { ...neighbours, grpc: relay });
        const random = seeded(SEED);
        const counts = { allowed: 0, denied: 0, large: 0, notSent: 0 };
        for (let i = 0; i < REQUESTS; i += 1) {
          const request = randomRequest(random);
          const before = messages.length;
          const { status } = await sendRequest(envoy.url, request);
          const bytes = messages[before];
          const title = `request ${i} of seed ${SEED} (GATECAR_FUZZ_SEED): ${JSON.stringify(request).slice(0, 500)}`;
          if (bytes === undefined) {
            counts.notSent += 1;
            t.equal(status, 400, title);
            continue;
          }
          const expected = { ...readByProtobufjs(bytes), isSame: true };
          t.strictSame(readByGatecar(bytes), expected, title);
          t.strictSame(readByGatecar(inPieces(bytes)), expected, `in pieces, ${title}`);
          const credentials = expected.headers.filter(pair => pair.startsWith('["authorization"'));
          const isAllowed =
            credentials.length === 1 && /^\["authorization","Bearer good"\]$/i.test(credentials[0] ?? '');
          t.equal(status, isAllowed ? 200 : 401, title);
          counts[isAllowed ? 'allowed' : 'denied'] += 1;
          if (bytes.length > LARGE_BYTES) counts.large += 1;
        }
        t.comment(`seed ${SEED}: ${JSON.stringify(counts)}`);
        for (const kind of ['allowed', 'denied', 'large'] as const) t.ok(counts[kind] > REQUESTS / 20, kind);
        t.ok(counts.notSent < REQUESTS / 4, 'Envoy sends most requests to gatecar');
      },
    );
  }
});
