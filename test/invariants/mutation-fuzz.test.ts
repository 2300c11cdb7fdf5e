import process from 'node:process';
import t from 'tap';
import { startFakeApiServer } from '../../src/dev/fake-api-server.ts';
import { tokenIssuer } from '../../src/dev/token-issuer.ts';
import { ask } from '../fixtures/ask.ts';
import { converse, head } from '../fixtures/conversation.ts';
import { startGatecarProcess } from '../fixtures/gatecar-process.ts';
import { goodRequests, sameToken } from '../fixtures/good-requests.ts';
import { LONG_FUZZ } from '../fixtures/long-fuzz.ts';
import { mutate, TOKEN } from '../fixtures/mutate-request.ts';
import { type Seeded, seeded } from '../fixtures/seeded-random.ts';

const CASES = LONG_FUZZ ? 10_000 : 250;
const SEED = Number(process.env['GATECAR_FUZZ_SEED'] ?? 20_240_601);
const MIB = 1024 * 1024;
/** How long one case may take before it counts as one that is never answered. */
const DEADLINE_MS = 20_000;

t.setTimeout(120_000 + CASES * 60);

const issuer = tokenIssuer();
const authority = await startFakeApiServer({ issuer });
t.teardown(() => authority.close());
const gatecar = await startGatecarProcess({
  GATECAR_KUBE_API_URL: authority.url,
  GATECAR_LOG_LEVEL: 'info',
  GATECAR_CACHE_MAX_ENTRIES: '100',
});
t.teardown(() => gatecar.stop());
const token = issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
const isGood = (sent: string): boolean => sameToken(sent, token);

const CREDENTIALS = [
  ...([`Authorization: Bearer ${TOKEN}`, `authorization: bearer ${TOKEN}`] as const),
  ...([`Authorization: Bearer ${TOKEN}`, `Authorization: Bearer ${token}`] as const),
  ...(['Authorization: Bearer eyJhbGciOiJub25lIn0.e30.', 'Authorization: Basic eDp5', 'X-No: credential'] as const),
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
  const others = ['X-Original-URI: /a', 'Cookie: a=b'].slice(random.below(3));
  others.push(field);
  const fields = others.toSpliced(random.below(others.length + 1), 0, random.pick(CREDENTIALS));
  return head(`${method} ${target} HTTP/${version}`, ...fields) + body;
}

/**
 * The statuses of everything that is answered to these bytes, and whether that came to an end.
 *
 * @param expected how many answers there are at least, unless the connection is closed before.
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
  const seen = () => conversation.received().match(/HTTP\/1\.1 \d{3} /g) ?? [];
  // Whatever there is to ask about these bytes has been asked before this question, so it is answered by then.
  await ask(gatecar.auth, { token: barrier });
  while (seen().length < expected && !conversation.socket.destroyed) await new Promise(setImmediate);
  conversation.end();
  await conversation.closed;
  clearTimeout(deadline);
  return { answers: seen().map(line => Number(line.slice(9, 12))), ended };
}

t.test('the oracle knows good requests when it sees them', async t => {
  const good = head('GET /auth HTTP/1.1', `Authorization: Bearer ${token}`);
  t.equal(goodRequests(good, isGood), 1);
  t.equal(goodRequests(good.repeat(3), isGood), 3);
  for (const bad of [good.slice(0, -1), good.replace('Bearer', 'Basic'), good.replace(token, `${token}x`)]) {
    t.equal(goodRequests(bad, isGood), 0);
  }
  t.equal(
    goodRequests(head('GET /auth HTTP/1.1', 'Authorization: Bearer x', `Authorization: Bearer ${token}`), isGood),
    0,
  );
  t.equal(goodRequests(head('POST /auth HTTP/1.1', 'Content-Length: 500') + good, isGood), 0);
});

t.test(`of ${CASES} spoiled requests, none gets a 200 without a whole good credential, nor a 5xx`, async t => {
  const random = seeded(SEED);
  const counts = new Map<number, number>();
  let before = 0;
  for (let i = 0; i < CASES; i += 1) {
    const bytes = mutate(validRequest(random), random, validRequest(random)).replaceAll(TOKEN, token);
    const good = goodRequests(bytes, isGood);
    const { answers, ended } = await answersTo(bytes, good, `barrier-${i}`);
    if (!ended) t.fail(`no end: ${said(bytes, i)}`);
    for (const status of answers) counts.set(status, (counts.get(status) ?? 0) + 1);
    const allowed = answers.filter(status => status >= 200 && status < 300).length;
    if (allowed > good) t.fail(`${allowed} allowed and ${good} good: ${said(bytes, i)}`);
    const strange = answers.filter(status => ![200, 400, 401, 404, 431, 503].includes(status));
    if (strange.length > 0) t.fail(`answered ${strange}: ${said(bytes, i)}`);
    if (i === Math.floor(CASES / 5)) before = (await gatecar.memory()).heapUsed;
  }
  t.comment(JSON.stringify(Object.fromEntries(counts)));
  for (const status of [200, 400, 401]) t.ok((counts.get(status) ?? 0) > CASES / 20, `${status} was among the answers`);
  t.equal(counts.get(503), undefined, 'the authority could always be asked');
  const grown = ((await gatecar.memory()).heapUsed - before) / MIB;
  t.ok(grown < 10, `the heap grew by ${grown.toFixed(1)} MiB`);
});

t.test('after all of it the same process lets a good request pass, and has had no fault', async t => {
  t.equal((await ask(gatecar.auth, { token })).status, 200);
  t.notMatch(gatecar.output(), /"level":"(error|fatal)"/);
});

function said(bytes: string, i: number): string {
  return `case ${i} of seed ${SEED} (GATECAR_FUZZ_SEED): ${JSON.stringify(bytes.replaceAll(token, '<token>'))}`;
}
