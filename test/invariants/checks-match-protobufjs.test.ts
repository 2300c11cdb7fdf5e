import { join } from 'node:path';
import process from 'node:process';
import { loadSync } from '@grpc/proto-loader';
import t from 'tap';
import { CheckRequest } from '../../src/gateway/grpc/message/check-request.ts';
import { LargeMessage } from '../../src/gateway/grpc/message/large-message.ts';
import { ProtobufError } from '../../src/gateway/grpc/message/protobuf.ts';
import { NASTY_PIECES, type Seeded, seeded } from '../fixtures/seeded-random.ts';
import { fieldsOf } from '../fixtures/slow-protobuf.ts';

// gatecar decodes `CheckRequest` itself. Here protobufjs decodes the same bytes.

const SEED = Number(process.env['GATECAR_FUZZ_SEED'] ?? 20_240_601);
const CASES = 5_000;

interface Pair {
  readonly key?: string;
  readonly value?: string;
  readonly raw_value?: Buffer;
}
interface Checked {
  readonly attributes?: {
    readonly source?: { readonly address?: { readonly socket_address?: { readonly address?: string } } };
    readonly request?: {
      readonly http?: {
        readonly method?: string;
        readonly path?: string;
        readonly headers?: Record<string, string>;
        readonly header_map?: { readonly headers?: readonly Pair[] };
      };
    };
  };
}

const loaded = loadSync(join(import.meta.dirname, '../fixtures/ext-authz.proto'), { keepCase: true });
const codec = loaded['envoy.service.auth.v3.CheckRequest'] as unknown as {
  serialize(message: unknown): Buffer;
  deserialize(bytes: Buffer): Checked;
};

/** The fields that gatecar decides by and those that it logs. Strings are UTF-8. */
interface Read {
  readonly authorization: readonly string[];
  readonly method: string;
  readonly path: string;
  readonly address: string;
}

const utf8 = (bytes: string | Buffer): string => Buffer.from(bytes as string, 'latin1').toString('utf8');

/** @returns `undefined` if gatecar rejects the bytes. */
function readByGatecar(bytes: Buffer): Read | undefined {
  try {
    const request = new CheckRequest(bytes);
    const { method, path } = request.details;
    return {
      authorization: request.authorization.map(utf8),
      method: utf8(method),
      path: utf8(path),
      address: utf8(request.address),
    };
  } catch (error) {
    if (error instanceof ProtobufError) return undefined;
    throw error;
  }
}

/** Reads the same bytes as a large message that arrives in pieces. */
function readInPieces(bytes: Buffer, random: Seeded): Read | undefined {
  const large = new LargeMessage(bytes.length);
  try {
    for (let from = 0; from < bytes.length; ) {
      const to = from + 1 + random.below(40);
      large.add(bytes.subarray(from, to));
      from = to;
    }
  } catch (error) {
    if (error instanceof ProtobufError) return undefined;
    throw error;
  }
  return large.isComplete ? readByGatecar(large.take()) : undefined;
}

/** @returns `undefined` if protobufjs rejects the bytes. */
function readByProtobufjs(bytes: Buffer): Read | undefined {
  let checked: Checked;
  try {
    checked = codec.deserialize(bytes);
  } catch {
    return undefined;
  }
  const { source, request: { http = {} } = {} } = checked.attributes ?? {};
  const pairs = (http.header_map?.headers ?? []).map(({ key = '', value, raw_value }) => [
    key,
    value || utf8(Buffer.from(raw_value ?? []).toString('latin1')),
  ]);
  return {
    authorization: [...Object.entries(http.headers ?? {}), ...pairs]
      .filter(([name]) => name?.toLowerCase() === 'authorization')
      .flat(),
    method: http.method ?? '',
    path: http.path ?? '',
    address: source?.address?.socket_address?.address ?? '',
  };
}

/** Field numbers of messages. `text` is a string or bytes; a list is a repeated message. */
interface Shape {
  readonly [number: number]: Shape | readonly [Shape] | 'text';
}
const HTTP: Shape = {
  1: 'text',
  2: 'text',
  4: 'text',
  3: [{ 1: 'text', 2: 'text' }],
  13: { 1: [{ 1: 'text', 2: 'text', 3: 'text' }] },
};
const CHECK: Shape = { 1: { 1: { 1: { 1: { 2: 'text' } } }, 4: { 2: HTTP } } };

/**
 * The ways in which protobufjs deviates from the specification, so that results are not
 * comparable.
 */
type Departure =
  /** The specification merges a message that occurs twice. protobufjs keeps the last. */
  | 'repeated message'
  /**
   * The specification treats a field of another wire type as unknown. protobufjs reads it anyway.
   */
  | 'other wire type';

function departures(bytes: Buffer, shape: Shape = CHECK): Set<Departure> {
  const found = new Set<Departure>();
  const present = new Set<number>();
  for (const { number, shape: wireType, value } of fieldsOf(bytes)) {
    const inner = shape[number];
    if (inner === undefined) continue;
    if (wireType !== 2) found.add('other wire type');
    if (wireType !== 2 || inner === 'text') continue;
    const isList = Array.isArray(inner);
    if (!isList && present.has(number)) found.add('repeated message');
    present.add(number);
    for (const departure of departures(value, (isList ? inner[0] : inner) as Shape)) found.add(departure);
  }
  return found;
}

const NAMES = ['authorization', 'Authorization', 'AUTHORIZATION'] as const;

function randomMessage(random: Seeded): Buffer {
  const text = () => random.text(NASTY_PIECES, 6);
  const optional = <T>(value: T): T | undefined => (random.below(4) === 0 ? undefined : value);
  const name = () => (random.below(3) === 0 ? random.pick(NAMES) : text());
  const pair = (): Pair =>
    random.below(2) === 0 ? { key: name(), value: text() } : { key: name(), raw_value: Buffer.from(text(), 'latin1') };
  const headers = Object.fromEntries(Array.from({ length: random.below(4) }, () => [name(), text()]));
  const header_map = optional({ headers: Array.from({ length: random.below(4) }, pair) });
  return codec.serialize({
    attributes: optional({
      source: optional({ address: optional({ socket_address: optional({ address: text() }) }) }),
      request: optional({ http: optional({ method: optional(text()), path: optional(text()), headers, header_map }) }),
    }),
  });
}

function mutated(bytes: Buffer, random: Seeded): Buffer {
  const at = random.below(bytes.length + 1);
  const changed = Buffer.from(bytes);
  switch (random.below(6)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from([random.below(256)]), bytes.subarray(at)]);
    case 2:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random.below(8))]);
    case 3:
      return Buffer.concat([bytes, randomMessage(random)]);
    case 4:
      if (at < changed.length) changed[at] = (changed[at] as number) ^ (1 << random.below(5));
      return changed;
    default:
      if (at < changed.length) changed[at] = random.below(256);
      return changed;
  }
}

/**
 * gatecar reads every entry of a map. protobufjs keeps the last one per key. gatecar then denies,
 * because there is more than one credential.
 */
function hasRepeatedKey(byGatecar: Read, byProtobufjs: Read): boolean {
  return byGatecar.authorization.length > Math.max(2, byProtobufjs.authorization.length);
}

function compareReadings(byGatecar: Read | undefined, byProtobufjs: Read | undefined, bytes: Buffer): string {
  if (byGatecar === undefined) return byProtobufjs === undefined ? 'both reject' : 'stricter: gatecar rejects';
  const [departure] = departures(bytes);
  if (departure !== undefined) return `not comparable: ${departure}`;
  if (byProtobufjs !== undefined && hasRepeatedKey(byGatecar, byProtobufjs))
    return 'stricter: a repeated key is more than one credential';
  return JSON.stringify(byGatecar) === JSON.stringify(byProtobufjs) ? 'same' : 'DIFFERENT';
}

function compare(t: Tap, message: (random: Seeded) => Buffer): Map<string, number> {
  const random = seeded(SEED);
  const counts = new Map<string, number>();
  for (let i = 0; i < CASES; i += 1) {
    const bytes = message(random);
    const byProtobufjs = readByProtobufjs(bytes);
    const readings = { whole: readByGatecar(bytes), pieces: readInPieces(bytes, random) };
    for (const [name, byGatecar] of Object.entries(readings)) {
      const outcome = compareReadings(byGatecar, byProtobufjs, bytes);
      counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
      if (outcome !== 'DIFFERENT') continue;
      t.strictSame(
        byGatecar,
        byProtobufjs,
        `case ${i} of seed ${SEED} (GATECAR_FUZZ_SEED), ${name}: ${bytes.toString('hex')}`,
      );
      return counts;
    }
  }
  t.comment(`seed ${SEED}: ${JSON.stringify(Object.fromEntries(counts))}`);
  return counts;
}
type Tap = typeof t;

t.test('gatecar reads a valid check as protobufjs does, whole and in pieces', async t => {
  const counts = compare(t as unknown as Tap, randomMessage);
  t.strictSame([...counts], [['same', 2 * CASES]]);
});

t.test('gatecar reads a mutated check as protobufjs does, or rejects it', async t => {
  const counts = compare(t as unknown as Tap, random => mutated(randomMessage(random), random));
  t.notOk(counts.has('DIFFERENT'));
  for (const outcome of ['same', 'both reject', 'stricter: gatecar rejects']) {
    t.ok((counts.get(outcome) ?? 0) > CASES / 50, outcome);
  }
});

t.test('gatecar is stricter than protobufjs about more than one credential and about malformed bytes', async t => {
  const field = (number: number, value: Buffer): Buffer =>
    Buffer.concat([Buffer.from([number * 8 + 2, value.length]), value]);
  const entry = field(3, Buffer.concat([field(1, Buffer.from('authorization')), field(2, Buffer.from('Bearer a'))]));
  const twice = field(1, field(4, field(2, Buffer.concat([entry, entry]))));
  const oneKey = readByProtobufjs(twice)?.authorization.length;
  t.strictSame([readByGatecar(twice)?.authorization.length, oneKey], [4, 2], 'a map key that occurs twice');
  for (const [name, hex] of Object.entries({
    'field number 0': '0200',
    'a group closed by the end tag of another': '1b24',
    'a nested message longer than its parent': '0a0222050a00',
  })) {
    const bytes = Buffer.from(hex, 'hex');
    t.equal(readByGatecar(bytes), undefined, name);
    t.equal(readInPieces(bytes, seeded(1)), undefined, name);
  }
});
