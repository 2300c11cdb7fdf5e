import process from 'node:process';
import { Client, credentials, type MethodDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import t from 'tap';
import { converse, head } from '../fixtures/conversation.ts';
import { ENVOY_INCLUDES, type OfficialResponse } from '../fixtures/envoy-client.ts';
import { startWithFakeApi } from '../fixtures/gatecar.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { type Seeded, seeded } from '../fixtures/seeded-random.ts';

const SEED = Number(process.env['GATECAR_FUZZ_SEED'] ?? 20_240_601);
const CASES = LONG_FUZZ ? 1_000 : 250;

const ALLOWED = '0 ok_response';
const DENIED = '16 denied_response';
/** The RPC status for bytes that are not a valid message, and for a message that is too long. */
const UNREADABLE = 'RPC error 13';

const gatecar = await startWithFakeApi({ GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
t.teardown(() => gatecar.stop());
const token = gatecar.token();
const client = new Client(gatecar.grpc, credentials.createInsecure(), { 'grpc.max_send_message_length': -1 });
t.teardown(() => client.close());

const loaded = loadSync('envoy/service/auth/v3/external_auth.proto', {
  keepCase: true,
  defaults: true,
  oneofs: true,
  enums: Number,
  includeDirs: ENVOY_INCLUDES,
});
const { Check } = loaded['envoy.service.auth.v3.Authorization'] as unknown as {
  Check: MethodDefinition<unknown, OfficialResponse>;
};

/** Returns the response to these bytes as a message, or the code of the RPC error. */
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

t.test(`of ${CASES} mutated messages none is allowed without an intact valid credential`, async t => {
  const random = seeded(SEED);
  const validCredential = `Bearer ${token}`;
  const counts = new Map<string, number>();
  for (let i = 0; i < CASES; i += 1) {
    const bytes = mutate(message(random.pick([validCredential, validCredential, 'Bearer unknown', undefined])), random);
    const code = codeOf(await check(bytes));
    counts.set(code, (counts.get(code) ?? 0) + 1);
    const isExpected = code === ALLOWED ? bytes.includes(validCredential) : [DENIED, UNREADABLE].includes(code);
    if (!isExpected) t.fail(`case ${i} of seed ${SEED} (GATECAR_FUZZ_SEED): ${code} for ${bytes.toString('latin1')}`);
  }
  t.comment(JSON.stringify(Object.fromEntries(counts)));
  for (const code of [ALLOWED, DENIED]) t.ok((counts.get(code) ?? 0) > CASES / 40, code);
});

t.test('a check is allowed exactly if both header fields together hold one credential, and it is valid', async t => {
  const random = seeded(SEED);
  const names = ['authorization', 'Authorization', 'AUTHORIZATION', 'authorization_', 'x-authorization', ''] as const;
  const validCredential = `Bearer ${token}`;
  const values = [
    validCredential,
    validCredential,
    validCredential,
    `bearer ${token}`,
    '',
    'Bearer x',
    `${validCredential},${validCredential}`,
    ` ${validCredential}`,
    `${validCredential}\n`,
  ] as const;
  const counts = new Map<string, number>();
  for (let i = 0; i < CASES; i += 1) {
    const randomHeaders = () =>
      Array.from({ length: random.below(3) }, () => ({ key: random.pick(names), value: random.pick(values) }));
    const merged = new Map(randomHeaders().map(({ key, value }) => [key, value]));
    const headerMapEntries = randomHeaders();
    const headers = headerMapEntries.map(({ key, value }) =>
      random.below(2) === 0 ? { key, value } : { key, raw_value: Buffer.from(value, 'latin1') },
    );
    const sent = [...merged, ...headerMapEntries.map(({ key, value }) => [key, value] as const)];
    const credentials = sent.filter(([key]) => key.toLowerCase() === 'authorization').map(([, value]) => value);
    const isAllowed = credentials.length === 1 && credentials[0]?.toLowerCase() === validCredential.toLowerCase();
    const code = codeOf(
      await check(message(undefined, { headers: Object.fromEntries(merged), header_map: { headers } })),
    );
    counts.set(code, (counts.get(code) ?? 0) + 1);
    if (code !== (isAllowed ? ALLOWED : DENIED))
      t.fail(`case ${i} of seed ${SEED}: ${code} for ${JSON.stringify(sent)}`);
  }
  for (const code of [ALLOWED, DENIED]) t.ok((counts.get(code) ?? 0) > CASES / 20, code);
});

t.test('a body of any length does not change the decision, and a head that is too large is denied', async t => {
  t.equal(codeOf(await check(message(`Bearer ${token}`, { body: 'b'.repeat(17 * 1024 * 1024) }))), ALLOWED);
  t.equal(codeOf(await check(message('Bearer wrong', { body: 'b'.repeat(17 * 1024 * 1024) }))), DENIED);
  t.equal(codeOf(await check(message(`Bearer ${'x'.repeat(3 * 1024 * 1024)}`))), DENIED);
});

t.test('bytes that are not gRPC close their own connection and affect no other', async t => {
  const random = seeded(SEED);
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
  const frames = Array.from({ length: 20 }, () => preface + random.text(['\0', '\x01', '\x04', '\xff', 'a'], 200));
  const http1 = head('GET /auth HTTP/1.1', `Authorization: Bearer ${token}`);
  for (const bytes of ['', '\0\0\0', '\x16\x03\x01\x02\0\x01', http1, preface, ...frames]) {
    const conversation = await converse(`http://${gatecar.grpc}`);
    conversation.send(bytes);
    conversation.end();
    await conversation.closed;
    t.notMatch(conversation.received(), 'HTTP/1.1 200');
  }
  t.equal(codeOf(await check(message(`Bearer ${token}`))), ALLOWED);
  t.same(
    gatecar.logs().filter(({ level }) => level === 'error' || level === 'fatal'),
    [],
  );
});

/** Mostly keeps the lengths, so that the message can still be parsed. */
function mutate(message: Buffer, random: Seeded): Buffer {
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
