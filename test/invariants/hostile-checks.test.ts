import process from 'node:process';
import { Client, credentials, type MethodDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import t from 'tap';
import { converse, head } from '../fixtures/conversation.ts';
import { ENVOY_INCLUDES, type OfficialResponse } from '../fixtures/envoy-client.ts';
import { startGate } from '../fixtures/gatecar.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { type Seeded, seeded } from '../fixtures/seeded-random.ts';

const SEED = Number(process.env['GATECAR_FUZZ_SEED'] ?? 20_240_601);
const CASES = LONG_FUZZ ? 1_000 : 250;

const ALLOWED = '0 ok_response';
const DENIED = '16 denied_response';
/** What the RPC itself says of bytes that are no message, and of a message that is too long. */
const UNREADABLE = 'RPC error 13';

const gate = await startGate({ GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
t.teardown(() => gate.stop());
const token = gate.token();
const client = new Client(gate.grpc, credentials.createInsecure(), { 'grpc.max_send_message_length': -1 });
t.teardown(() => client.close());

const loaded = loadSync('envoy/service/auth/v3/external_auth.proto', {
  ...{ keepCase: true, defaults: true, oneofs: true, enums: Number, includeDirs: ENVOY_INCLUDES },
});
const { Check } = loaded['envoy.service.auth.v3.Authorization'] as unknown as {
  Check: MethodDefinition<unknown, OfficialResponse>;
};

/** The answer to these bytes as a message, or the code of the RPC's error. */
function check(message: Buffer): Promise<OfficialResponse | number> {
  return new Promise(resolve => {
    const same = (bytes: Buffer): Buffer => bytes;
    const done = (error: ServiceError | null, answer?: Buffer) =>
      resolve(error ? error.code : Check.responseDeserialize(answer as Buffer));
    client.makeUnaryRequest(Check.path, same, same, message, done);
  });
}

function message(authorization: string | undefined, more: Record<string, unknown> = {}): Buffer {
  const headers = { 'x-request-id': '1', ...(authorization !== undefined && { authorization }) };
  return Check.requestSerialize({
    attributes: { request: { http: { id: '7', method: 'GET', path: '/x', headers, ...more } } },
  });
}

const codeOf = (answer: OfficialResponse | number): string =>
  typeof answer === 'number' ? `RPC error ${answer}` : `${answer.status.code} ${answer.http_response}`;

t.test(`of ${CASES} spoiled messages none is allowed without a whole good credential`, async t => {
  const random = seeded(SEED);
  const good = `Bearer ${token}`;
  const counts = new Map<string, number>();
  for (let i = 0; i < CASES; i += 1) {
    const bytes = spoil(message(random.pick([good, good, 'Bearer unknown', undefined])), random);
    const code = codeOf(await check(bytes));
    counts.set(code, (counts.get(code) ?? 0) + 1);
    const isFine = code === ALLOWED ? bytes.includes(good) : [DENIED, UNREADABLE].includes(code);
    if (!isFine) t.fail(`case ${i} of seed ${SEED} (GATECAR_FUZZ_SEED): ${code} for ${bytes.toString('latin1')}`);
  }
  t.comment(JSON.stringify(Object.fromEntries(counts)));
  for (const code of [ALLOWED, DENIED]) t.ok((counts.get(code) ?? 0) > CASES / 40, code);
});

t.test('a credential is allowed where it is the only one in both fields for headers, and nowhere else', async t => {
  const random = seeded(SEED);
  const names = ['authorization', 'Authorization', 'AUTHORIZATION', 'authorization_', 'x-authorization', ''] as const;
  const good = `Bearer ${token}`;
  const values = [
    good,
    good,
    good,
    `bearer ${token}`,
    '',
    'Bearer x',
    `${good},${good}`,
    ` ${good}`,
    `${good}\n`,
  ] as const;
  const counts = new Map<string, number>();
  for (let i = 0; i < CASES; i += 1) {
    const some = () =>
      Array.from({ length: random.below(3) }, () => ({ key: random.pick(names), value: random.pick(values) }));
    const merged = new Map(some().map(({ key, value }) => [key, value]));
    const raw = some();
    const headers = raw.map(({ key, value }) =>
      random.below(2) === 0 ? { key, value } : { key, raw_value: Buffer.from(value, 'latin1') },
    );
    const sent = [...merged, ...raw.map(({ key, value }) => [key, value] as const)];
    const credentials = sent.filter(([key]) => key.toLowerCase() === 'authorization').map(([, value]) => value);
    const isGood = credentials.length === 1 && credentials[0]?.toLowerCase() === good.toLowerCase();
    const code = codeOf(
      await check(message(undefined, { headers: Object.fromEntries(merged), header_map: { headers } })),
    );
    counts.set(code, (counts.get(code) ?? 0) + 1);
    if (code !== (isGood ? ALLOWED : DENIED)) t.fail(`case ${i} of seed ${SEED}: ${code} for ${JSON.stringify(sent)}`);
  }
  for (const code of [ALLOWED, DENIED]) t.ok((counts.get(code) ?? 0) > CASES / 20, code);
});

t.test(
  'a body of any length leaves the decision to the credential, and a head that is too large is denied',
  async t => {
    t.equal(codeOf(await check(message(`Bearer ${token}`, { body: 'b'.repeat(17 * 1024 * 1024) }))), ALLOWED);
    t.equal(codeOf(await check(message('Bearer wrong', { body: 'b'.repeat(17 * 1024 * 1024) }))), DENIED);
    t.equal(codeOf(await check(message(`Bearer ${'x'.repeat(3 * 1024 * 1024)}`))), DENIED);
  },
);

t.test('what is no gRPC ends its own connection and nothing else', async t => {
  const random = seeded(SEED);
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
  const frames = Array.from({ length: 20 }, () => preface + random.text(['\0', '\x01', '\x04', '\xff', 'a'], 200));
  const http1 = head('GET /auth HTTP/1.1', `Authorization: Bearer ${token}`);
  for (const bytes of ['', '\0\0\0', '\x16\x03\x01\x02\0\x01', http1, preface, ...frames]) {
    const conversation = await converse(`http://${gate.grpc}`);
    conversation.send(bytes);
    conversation.end();
    await conversation.closed;
    t.notMatch(conversation.received(), 'HTTP/1.1 200');
  }
  t.equal(codeOf(await check(message(`Bearer ${token}`))), ALLOWED);
  t.same(
    gate.logs().filter(({ level }) => level === 'error' || level === 'fatal'),
    [],
  );
});

/** Mostly leaves the lengths as they are, so that the message can still be read. */
function spoil(message: Buffer, random: Seeded): Buffer {
  const at = random.below(message.length);
  switch (random.below(8)) {
    case 0:
      return message.subarray(0, at);
    case 1:
      return Buffer.concat([message.subarray(0, at), Buffer.from([random.below(256)]), message.subarray(at)]);
    case 2:
      return Buffer.concat([message.subarray(0, at), message.subarray(at + 1 + random.below(8))]);
    case 3:
      return Buffer.concat([message, message.subarray(at)]);
    case 4:
      return Buffer.concat([message, message]);
    default:
      message[random.below(2) === 0 ? at : random.below(80)] = random.below(256);
      return message;
  }
}
