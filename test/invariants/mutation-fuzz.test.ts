import process from 'node:process';
import t from 'tap';
import { startFakeApiServer } from '../../src/dev/fake-api-server.ts';
import { tokenIssuer } from '../../src/dev/token-issuer.ts';
import { converse, head } from '../fixtures/conversation.ts';
import { startGatecarProcess } from '../fixtures/gatecar-process.ts';
import { goodRequests, sameToken } from '../fixtures/good-requests.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { mutate, TOKEN } from '../fixtures/mutate-request.ts';
import { type Seeded, seeded } from '../fixtures/seeded-random.ts';
import { sendRequest } from '../fixtures/send-request.ts';

const CASES = LONG_FUZZ ? 10_000 : 250;
const SEED = Number(process.env['GATECAR_FUZZ_SEED'] ?? 20_240_601);
const MIB = 1024 * 1024;
/** Time after which a case counts as one without a response. */
const DEADLINE_MS = 20_000;

t.setTimeout(120_000 + CASES * 60);

const issuer = tokenIssuer();
const apiServer = await startFakeApiServer({ issuer });
t.teardown(() => apiServer.close());
const gatecar = await startGatecarProcess({
  GATECAR_KUBE_API_URL: apiServer.url,
  GATECAR_LOG_LEVEL: 'info',
  GATECAR_CACHE_MAX_ENTRIES: '100',
});
t.teardown(() => gatecar.stop());
const token = issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
const isValid = (sent: string): boolean => sameToken(sent, token);

const CREDENTIALS = [
  `Authorization: Bearer ${TOKEN}`,
  `authorization: bearer ${TOKEN}`,
  `Authorization: Bearer ${TOKEN}`,
  `Authorization: Bearer ${token}`,
  'Authorization: Bearer eyJhbGciOiJub25lIn0.e30.',
  'Authorization: Basic eDp5',
  'X-No: credential',
] as const;

const FRAMINGS: readonly [Framing, ...Framing[]] = [
  { method: 'GET', field: 'Connection: keep-alive', body: '' },
  { method: 'HEAD', field: 'Accept: */*', body: '' },
  { method: 'POST', field: 'Content-Length: 0', body: '' },
  { method: 'POST', field: 'Content-Length: 5', body: 'hello' },
  { method: 'PUT', field: 'Transfer-Encoding: chunked', body: '5\r\nhello\r\n0\r\n\r\n' },
];

interface Framing {
  readonly method: string;
  readonly field: string;
  readonly body: string;
}

function validRequest(random: Seeded): string {
  const { method, field, body } = random.pick(FRAMINGS);
  const target = random.pick(['/auth', '/auth/x?y=1', '/auth/%2e%2e//', 'http://gatecar/auth'] as const);
  const version = random.below(8) === 0 ? '1.0' : '1.1';
  const optional = ['X-Original-URI: /a', 'Cookie: a=b'].slice(random.below(3));
  optional.push(field);
  const fields = optional.toSpliced(random.below(optional.length + 1), 0, random.pick(CREDENTIALS));
  return head(`${method} ${target} HTTP/${version}`, ...fields) + body;
}

/**
 * Returns the statuses of all responses to these bytes, and whether the connection ended.
 *
 * @param expected minimum number of responses, unless the connection closes earlier.
 */
async function answersTo(
  bytes: string,
  expected: number,
  barrier: string,
): Promise<{ answers: number[]; ended: boolean }> {
  const conversation = await converse(gatecar.auth);
  let ended = true;
  const deadline = setTimeout(() => {
    ended = false;
    conversation.destroy();
  }, DEADLINE_MS);
  conversation.send(bytes);
  const statusLines = () => conversation.received().match(/HTTP\/1\.1 \d{3} /g) ?? [];
  // Any review that these bytes cause starts before this request, so it has finished when this
  // request is answered.
  await sendRequest(gatecar.auth, { token: barrier });
  while (statusLines().length < expected && !conversation.socket.destroyed) await new Promise(setImmediate);
  conversation.end();
  await conversation.closed;
  clearTimeout(deadline);
  return { answers: statusLines().map(line => Number(line.slice(9, 12))), ended };
}

t.test('the oracle recognises valid requests', async t => {
  const validRequests = head('GET /auth HTTP/1.1', `Authorization: Bearer ${token}`);
  t.equal(goodRequests(validRequests, isValid), 1);
  t.equal(goodRequests(validRequests.repeat(3), isValid), 3);
  for (const bad of [
    validRequests.slice(0, -1),
    validRequests.replace('Bearer', 'Basic'),
    validRequests.replace(token, `${token}x`),
  ]) {
    t.equal(goodRequests(bad, isValid), 0);
  }
  t.equal(
    goodRequests(head('GET /auth HTTP/1.1', 'Authorization: Bearer x', `Authorization: Bearer ${token}`), isValid),
    0,
  );
  t.equal(goodRequests(head('POST /auth HTTP/1.1', 'Content-Length: 500') + validRequests, isValid), 0);
});

t.test(`of ${CASES} mutated requests none gets a 200 without an intact valid credential, and none a 5xx`, async t => {
  const random = seeded(SEED);
  const counts = new Map<number, number>();
  let before = 0;
  for (let i = 0; i < CASES; i += 1) {
    const bytes = mutate(validRequest(random), random, validRequest(random)).replaceAll(TOKEN, token);
    const validRequests = goodRequests(bytes, isValid);
    const { answers, ended } = await answersTo(bytes, validRequests, `barrier-${i}`);
    if (!ended) t.fail(`no end of the connection: ${describeCase(bytes, i)}`);
    for (const status of answers) counts.set(status, (counts.get(status) ?? 0) + 1);
    const allowed = answers.filter(status => status >= 200 && status < 300).length;
    if (allowed > validRequests) t.fail(`${allowed} allowed and ${validRequests} valid: ${describeCase(bytes, i)}`);
    const unexpected = answers.filter(status => ![200, 400, 401, 404, 431, 503].includes(status));
    if (unexpected.length > 0) t.fail(`status ${unexpected}: ${describeCase(bytes, i)}`);
    if (i === Math.floor(CASES / 5)) before = (await gatecar.memory()).heapUsed;
  }
  t.comment(JSON.stringify(Object.fromEntries(counts)));
  for (const status of [200, 400, 401]) t.ok((counts.get(status) ?? 0) > CASES / 20, `${status} is among the statuses`);
  t.equal(counts.get(503), undefined, 'the API server was always reachable');
  const grownMib = ((await gatecar.memory()).heapUsed - before) / MIB;
  t.ok(grownMib < 10, `the heap grew by ${grownMib.toFixed(1)} MiB`);
});

t.test('after all mutated requests the same process allows a valid request and has logged no error', async t => {
  t.equal((await sendRequest(gatecar.auth, { token })).status, 200);
  t.notMatch(gatecar.output(), /"level":"(error|fatal)"/);
});

function describeCase(bytes: string, i: number): string {
  return `case ${i} of seed ${SEED} (GATECAR_FUZZ_SEED): ${JSON.stringify(bytes.replaceAll(token, '<token>'))}`;
}
