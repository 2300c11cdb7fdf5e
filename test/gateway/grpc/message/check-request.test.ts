import { join } from 'node:path';
import process from 'node:process';
import { loadSync } from '@grpc/proto-loader';
import t from 'tap';
import { CheckRequest } from '../../../../src/gateway/grpc/message/check-request.ts';
import { ProtobufError } from '../../../../src/gateway/grpc/message/protobuf.ts';
import { ENVOY_INCLUDES } from '../../../fixtures/envoy-client.ts';
import { NASTY_PIECES, type Seeded, seeded } from '../../../fixtures/seeded-random.ts';
import { fieldsOf, valuesAt } from '../../../fixtures/slow-protobuf.ts';

const SEED = Number(process.env['GATECAR_FUZZ_SEED'] ?? 20_240_601);
const CASES = 3_000;

const SUBSET = join(import.meta.dirname, '../../../fixtures/ext-authz.proto');
const OFFICIAL = 'envoy/service/auth/v3/external_auth.proto';

interface Field {
  readonly name: string;
  readonly number: number;
  readonly type: string;
  readonly label: string;
  readonly typeName: string;
}
interface Message {
  readonly name: string;
  readonly field: readonly Field[];
  readonly nestedType: readonly Message[];
}
/** As protobufjs reads and writes it. */
interface Codec {
  serialize(message: unknown): Buffer;
  deserialize(bytes: Buffer): Checked;
}
interface Checked {
  readonly attributes?: {
    readonly source?: { readonly address?: { readonly socket_address?: { readonly address?: string } } };
    readonly request?: { readonly http?: Http };
  };
}
interface Http {
  readonly id?: string;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly header_map?: { readonly headers?: readonly Pair[] };
}
interface Pair {
  readonly key?: string;
  readonly value?: string;
  readonly raw_value?: Buffer;
}

const settings = { keepCase: true, longs: Number, enums: Number };
const subsetLoaded = loadSync(SUBSET, settings);
const officialLoaded = loadSync(OFFICIAL, { ...settings, includeDirs: [...ENVOY_INCLUDES] });
const codecOf = (loaded: typeof subsetLoaded) => loaded['envoy.service.auth.v3.CheckRequest'] as unknown as Codec;
const subset = codecOf(subsetLoaded);
const official = codecOf(officialLoaded);

/** Every message of a file by its simple name, including nested messages. */
function messagesOf(loaded: typeof subsetLoaded): Map<string, Message> {
  const found = new Map<string, Message>();
  const add = (message: Message): void => {
    // Several official packages use the same simple name; the authorization API takes precedence.
    if (!found.has(message.name)) found.set(message.name, message);
    for (const nested of message.nestedType ?? []) add(nested);
  };
  const ranked = Object.entries(loaded).sort(([left], [right]) => rank(left) - rank(right));
  for (const [, definition] of ranked) {
    if ('type' in definition && 'field' in (definition.type as object)) add(definition.type as unknown as Message);
  }
  return found;
}

function rank(name: string): number {
  const order = ['envoy.service.auth.v3', 'envoy.config.core.v3'];
  const index = order.findIndex(prefix => name.startsWith(prefix));
  return index < 0 ? order.length : index;
}

t.test(
  'every field of the test’s .proto subset has the name, number, type and label of the official field',
  async t => {
    const officialMessages = messagesOf(officialLoaded);
    const subsetMessages = messagesOf(subsetLoaded);
    const simple = (typeName = '') => typeName.split('.').at(-1);
    t.ok(subsetMessages.size >= 8, 'the subset was read');
    for (const message of subsetMessages.values()) {
      for (const { name, number, type, label, typeName } of message.field) {
        const officialField = officialMessages.get(message.name)?.field.find(field => field.name === name);
        t.match(officialField, { number, type, label }, `${message.name}.${name}`);
        t.equal(simple(officialField?.typeName), simple(typeName), `${message.name}.${name}`);
      }
    }
  },
);

type Read = ReturnType<typeof readBy>;

/** All fields that are read from a check, except the credential. */
function readBy(request: CheckRequest) {
  return { address: request.address, ...request.details };
}

const empty: Read = { address: '', id: '', method: '', path: '', headers: [] };

t.test('a request encoded by the official files is read', async t => {
  const bytes = official.serialize({
    attributes: {
      source: { address: { socket_address: { address: '203.0.113.9', port_value: 4711 } }, principal: 'spiffe://x' },
      destination: { address: { socket_address: { address: '10.0.0.7', port_value: 80 } } },
      request: {
        time: { seconds: 1_767_225_600, nanos: 1 },
        http: {
          id: '7',
          method: 'GET',
          path: '/x?a=b',
          host: 'h',
          scheme: 'https',
          size: -1,
          protocol: 'HTTP/2',
          headers: { ':path': '/x', Authorization: 'Bearer abc', 'x-user': '' },
          body: 'authorization',
        },
      },
      context_extensions: { authorization: 'Bearer def' },
      tls_session: { sni: 'x' },
    },
  });
  const request = new CheckRequest(bytes);
  t.strictSame(request.authorization, ['Authorization', 'Bearer abc']);
  const expected: Read = {
    address: '203.0.113.9',
    id: '7',
    method: 'GET',
    path: '/x?a=b',
    headers: [':path', '/x', 'Authorization', 'Bearer abc', 'x-user', ''],
  };
  t.strictSame(readBy(request), expected);
  request.keep();
  bytes.fill(0);
  t.strictSame(readBy(request), expected, 'keep() copies the fields before the buffer is reused');
  t.equal(request.size, bytes.length);
});

t.test('missing fields are read as empty', async t => {
  for (const message of [
    {},
    { attributes: {} },
    { attributes: { request: {}, source: {} } },
    { attributes: { request: { http: {} }, source: { address: {} } } },
    { attributes: { source: { address: { socket_address: {} } } } },
    { attributes: { source: { address: { pipe: { path: '/x' } } } } },
  ]) {
    const request = new CheckRequest(official.serialize(message));
    t.strictSame(readBy(request), empty);
    t.strictSame(request.authorization, []);
  }
  const bare = { attributes: { request: { http: { header_map: { headers: [{}] } } } } };
  t.strictSame(new CheckRequest(official.serialize(bare)).details.headers, ['', '']);
});

t.test('two credentials are read as two, even if other decoders would keep only the last', async t => {
  const once = subset.serialize({ attributes: { request: { http: { headers: { authorization: 'Bearer a' } } } } });
  const again = subset.serialize({ attributes: { request: { http: { headers: { authorization: 'Bearer b' } } } } });
  const both = Buffer.concat([once, again]);
  const two = ['authorization', 'Bearer a', 'authorization', 'Bearer b'];
  t.strictSame(new CheckRequest(both).authorization, two);
  t.strictSame(new CheckRequest(both).details.headers, two);
  const raw_value = Buffer.from('Bearer \xff', 'latin1');
  const http = { headers: { AUTHORIZATION: '1' }, header_map: { headers: [{ key: 'authorization', raw_value }] } };
  t.strictSame(new CheckRequest(subset.serialize({ attributes: { request: { http } } })).authorization, [
    'AUTHORIZATION',
    '1',
    'authorization',
    'Bearer \xff',
  ]);
});

t.test('of a repeated scalar field the last counts, and repeated messages are merged', async t => {
  const http = (fields: object) => subset.serialize({ attributes: { request: { http: fields } } });
  const source = { address: { socket_address: { address: '::1' } } };
  const bytes = Buffer.concat([
    http({ id: '1', method: 'GET' }),
    subset.serialize({ attributes: { source } }),
    http({ id: '2', path: '/' }),
  ]);
  t.strictSame(readBy(new CheckRequest(bytes)), { ...empty, address: '::1', id: '2', method: 'GET', path: '/' });
});

/** Reads the same fields by the slow reference decoder. */
function expected(bytes: Buffer): Read {
  const last = (...path: number[]) => valuesAt(bytes, path).at(-1)?.toString('latin1') ?? '';
  const pair = (entry: Buffer, inMap: boolean): string[] => {
    const text = (number: number) => valuesAt(entry, [number]).at(-1)?.toString('latin1') ?? '';
    return [text(1), text(2) || (inMap ? '' : text(3))];
  };
  const headers = valuesAt(bytes, [1, 4, 2]).flatMap(http =>
    fieldsOf(http).flatMap(({ number, shape, value }) => {
      if (shape !== 2) return [];
      if (number === 3) return pair(value, true);
      return number === 13 ? valuesAt(value, [1]).flatMap(entry => pair(entry, false)) : [];
    }),
  );
  return {
    address: last(1, 1, 1, 1, 2),
    id: last(1, 4, 2, 1),
    method: last(1, 4, 2, 2),
    path: last(1, 4, 2, 4),
    headers,
  };
}

/** Reads the same fields by protobufjs, which drops repeated names of a map. */
function byLibrary(bytes: Buffer): Read {
  const { source, request: { http = {} } = {} } = subset.deserialize(bytes).attributes ?? {};
  const latin1 = (text = '') => Buffer.from(text, 'utf8').toString('latin1');
  const pairs = (http.header_map?.headers ?? []).flatMap(({ key, value, raw_value }) => [
    latin1(key),
    latin1(value) || Buffer.from(raw_value ?? []).toString('latin1'),
  ]);
  return {
    address: latin1(source?.address?.socket_address?.address),
    id: latin1(http.id),
    method: latin1(http.method),
    path: latin1(http.path),
    headers: [
      ...Object.entries(http.headers ?? {})
        .flat()
        .map(latin1),
      ...pairs,
    ],
  };
}

function randomMessage(random: Seeded): Buffer {
  const text = () => random.text(NASTY_PIECES, 6);
  const maybe = <T>(value: T): T | undefined => (random.below(4) === 0 ? undefined : value);
  const name = () =>
    random.below(3) === 0 ? random.pick(['authorization', 'Authorization', 'authorizatioN']) : text();
  const entries = Array.from({ length: random.below(6) }, () => [name(), text()] as const);
  const pairs = Array.from({ length: random.below(6) }, () =>
    random.below(2) === 0 ? { key: name(), value: text() } : { key: name(), raw_value: Buffer.from(text(), 'latin1') },
  );
  return subset.serialize({
    attributes: maybe({
      source: maybe({ address: maybe({ socket_address: maybe({ address: text() }) }) }),
      request: maybe({
        http: maybe({
          id: maybe(text()),
          method: maybe(text()),
          path: maybe(text()),
          headers: Object.fromEntries(entries),
          header_map: maybe({ headers: pairs }),
        }),
      }),
    }),
  });
}

function authorizationOf({ headers }: Read): string[] {
  return headers.flatMap((name, index) =>
    index % 2 === 0 && name.toLowerCase() === 'authorization' ? [name, headers[index + 1] ?? ''] : [],
  );
}

t.test('random requests encoded by protobufjs are read as protobufjs reads them', async t => {
  const random = seeded(SEED);
  for (let i = 0; i < CASES; i += 1) {
    const bytes = randomMessage(random);
    const title = `case ${i} of seed ${SEED}: ${bytes.toString('hex')}`;
    const request = new CheckRequest(bytes);
    // Sorted, because a JavaScript object lists its numeric names first.
    const sorted = ({ headers, ...rest }: Read) => ({
      ...rest,
      headers: headers.flatMap((name, index) => (index % 2 === 0 ? [`${name}\0${headers[index + 1]}`] : [])).sort(),
    });
    if (!t.strictSame(sorted(readBy(request)), sorted(byLibrary(bytes)), title)) break;
    t.strictSame(request.authorization, authorizationOf(readBy(request)), title);
  }
});

t.test('mutated requests are read or rejected as the reference decoder does', async t => {
  const random = seeded(SEED + 1);
  const counts = { read: 0, rejected: 0 };
  for (let i = 0; i < CASES; i += 1) {
    const bytes = mutate(randomMessage(random), random);
    const title = `case ${i} of seed ${SEED}: ${bytes.toString('hex')}`;
    let request: CheckRequest | undefined;
    let slow: Read | undefined;
    try {
      slow = expected(bytes);
    } catch {}
    try {
      request = new CheckRequest(bytes);
    } catch (error) {
      if (!(error instanceof ProtobufError)) throw error;
    }
    counts[request ? 'read' : 'rejected'] += 1;
    if (!t.strictSame(request && readBy(request), slow, title)) break;
    if (request && slow) t.strictSame(request.authorization, authorizationOf(slow), title);
  }
  t.ok(counts.read > CASES / 10 && counts.rejected > CASES / 10, JSON.stringify(counts));
});

function mutate(bytes: Buffer, random: Seeded): Buffer {
  const offset = random.below(bytes.length + 1);
  const noise = Buffer.from(Array.from({ length: 1 + random.below(4) }, () => random.below(256)));
  switch (random.below(7)) {
    case 0:
      return bytes.subarray(0, offset);
    case 1:
      return Buffer.concat([bytes.subarray(0, offset), noise, bytes.subarray(offset)]);
    case 2:
      return Buffer.concat([bytes.subarray(0, offset), bytes.subarray(offset + 1 + random.below(8))]);
    case 3:
      return Buffer.concat([bytes, randomMessage(random)]);
    case 4: {
      // A flipped low bit may change a wire type or a field number.
      const changed = Buffer.from(bytes);
      if (offset < changed.length) changed[offset] = (changed[offset] as number) ^ (1 << random.below(5));
      return changed;
    }
    case 5:
      return Buffer.concat([
        bytes,
        Buffer.from(random.pick(['1b1c', '1b0801230a0224240a1c', '7800', '7d00000000']), 'hex'),
      ]);
    default: {
      const changed = Buffer.from(bytes);
      if (offset < changed.length) changed[offset] = random.below(256);
      return changed;
    }
  }
}
