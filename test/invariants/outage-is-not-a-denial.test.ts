import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ask, type Reply } from '../fixtures/ask.ts';
import { startGatecar, type TestGatecar } from '../fixtures/gatecar.ts';
import { everyOutage } from '../fixtures/outages.ts';
import { accepts, answers, hangs, reviews, type StandIn, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { until } from '../fixtures/until.ts';

const REFUSES = reviews({ error: 'invalid bearer token' });

/** What hangs is answered when this ends; whatever else comes, comes before the other. */
const timeoutFor = (cause: string) => (cause === 'timeout' ? '250ms' : '20s');

async function start(t: Test, settings: Record<string, string> = {}): Promise<[TestGatecar, StandIn]> {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecar({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_REVIEW_TIMEOUT: '20s',
    GATECAR_CACHE_TTL: '5m',
    GATECAR_CACHE_NEGATIVE_TTL: '5m',
    ...settings,
  });
  t.teardown(() => gatecar.stop());
  return [gatecar, standIn];
}

function isOutage(t: Test, reply: Reply, expected: { status?: number; text: string; retryAfter?: string }): void {
  const { status = 503, text, retryAfter = '1' } = expected;
  t.equal(reply.status, status);
  t.equal(reply.headers['retry-after'], retryAfter);
  t.equal(reply.headers['x-gatecar-reason'], 'authority_unavailable');
  t.equal(reply.headers['cache-control'], 'no-store');
  t.same(JSON.parse(reply.body), { error: text });
  t.equal(reply.headers['www-authenticate'], status === 503 ? undefined : 'Bearer realm="gatecar"');
  t.equal(reply.headers['x-auth-request-user'], undefined);
}

/** Where the API server asked for less, what cannot be verified is held back until it has answered something else. */
const HELD_BACK = 'too_many_requests';

for (const { name, behaviour, cause, retryAfter } of everyOutage) {
  t.test(`${name}: unavailable, forgotten at once, and a known token is still served`, async t => {
    const [gatecar, standIn] = await start(t, { GATECAR_REVIEW_TIMEOUT: timeoutFor(cause) });
    const asked = (token: string) => standIn.requests.filter(request => request.token === token).length;
    t.equal((await ask(gatecar.auth, { token: 'known' })).status, 200);

    standIn.behaviour = behaviour;
    const text = `TokenReview API call failed: ${cause}`;
    isOutage(t, await ask(gatecar.auth, { token: 'good' }), { text, ...(retryAfter && { retryAfter }) });
    isOutage(t, await ask(gatecar.auth, { token: 'bad' }), { text, ...(retryAfter && { retryAfter }) });
    t.ok(asked('good') >= 1, 'the API server was asked');
    t.equal((await ask(gatecar.auth, { token: 'known' })).status, 200);
    t.equal(asked('known'), 1, 'from memory');

    const before = asked('good');
    standIn.behaviour = accepts();
    if (cause === HELD_BACK) await until(async () => (await ask(gatecar.auth, { token: 'good' })).status === 200);
    else t.equal((await ask(gatecar.auth, { token: 'good' })).status, 200, 'asked again without a wait');
    t.equal(asked('good'), before + 1);
    standIn.behaviour = REFUSES;
    const refused = await ask(gatecar.auth, { token: 'bad' });
    t.equal(refused.status, 401);
    t.equal(refused.headers['x-gatecar-reason'], 'token_rejected');
  });
}

for (const status of [401, 403]) {
  t.test(
    `told to answer ${status}, an outage is still no result: its own reason, no error code, nothing kept`,
    async t => {
      for (const { name, behaviour, cause, retryAfter } of everyOutage) {
        await t.test(name, async t => {
          const [gatecar, standIn] = await start(t, {
            GATECAR_UNAVAILABLE_STATUS: String(status),
            GATECAR_REVIEW_TIMEOUT: timeoutFor(cause),
          });
          standIn.behaviour = behaviour;
          const text = `TokenReview API call failed: ${cause}`;
          isOutage(t, await ask(gatecar.auth, { token: 'good' }), { status, text, ...(retryAfter && { retryAfter }) });
          standIn.behaviour = accepts();
          if (cause === HELD_BACK) await until(async () => (await ask(gatecar.auth, { token: 'good' })).status === 200);
          else t.equal((await ask(gatecar.auth, { token: 'good' })).status, 200);
        });
      }
    },
  );
}

t.test('an API server that is gone is unavailable until it is back, and a known token is still served', async t => {
  const standIn = await startStandIn(accepts());
  const { port } = new URL(standIn.url);
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url, GATECAR_CACHE_TTL: '5m' });
  t.teardown(() => gatecar.stop());
  t.equal((await ask(gatecar.auth, { token: 'known' })).status, 200);

  await standIn.close();
  const text = 'TokenReview API call failed: connection refused';
  isOutage(t, await ask(gatecar.auth, { token: 'good' }), { text });
  t.equal((await ask(gatecar.auth, { token: 'known' })).status, 200);

  const back = await startStandIn(accepts(), Number(port));
  t.teardown(() => back.close());
  t.equal((await ask(gatecar.auth, { token: 'good' })).status, 200);
  back.behaviour = REFUSES;
  t.equal((await ask(gatecar.auth, { token: 'bad' })).headers['x-gatecar-reason'], 'token_rejected');
});

t.test('an API server that speaks no TLS where it should is unavailable', async t => {
  const [, standIn] = await start(t);
  const [gatecar] = await start(t, { GATECAR_KUBE_API_URL: standIn.url.replace('http:', 'https:') });
  isOutage(t, await ask(gatecar.auth, { token: 'good' }), { text: 'TokenReview API call failed: tls' });
});

t.test('without a credential of our own nobody is asked, and once it is there everybody', async t => {
  const file = join(t.testdir({}), 'token');
  const [gatecar, standIn] = await start(t, { GATECAR_KUBE_TOKEN_FILE: file });
  isOutage(t, await ask(gatecar.auth, { token: 'good' }), { text: 'Failed to create Kubernetes client' });
  t.equal(standIn.requests.length, 0);
  await writeFile(file, 'our-own');
  t.equal((await ask(gatecar.auth, { token: 'good' })).status, 200);
  t.equal(standIn.requests[0]?.headers.authorization, 'Bearer our-own');
});

t.test('a known yes ends with its TTL, and then the outage shows', async t => {
  const [gatecar, standIn] = await start(t, { GATECAR_CACHE_TTL: '400ms' });
  t.equal((await ask(gatecar.auth, { token: 'known' })).status, 200);
  standIn.behaviour = answers(500, 'boom');
  let reply = await ask(gatecar.auth, { token: 'known' });
  while (reply.status === 200) reply = await ask(gatecar.auth, { token: 'known' });
  isOutage(t, reply, { text: 'TokenReview API call failed: server error' });
  standIn.behaviour = accepts();
  t.equal((await ask(gatecar.auth, { token: 'known' })).status, 200);
});

t.test('all who wait for one hung review are told of the outage, and those who come after are not', async t => {
  const [gatecar, standIn] = await start(t, { GATECAR_REVIEW_TIMEOUT: '250ms' });
  standIn.behaviour = hangs;
  const waiting = Array.from({ length: 20 }, () => ask(gatecar.auth, { token: 'good' }));
  for (const reply of await Promise.all(waiting)) {
    isOutage(t, reply, { text: 'TokenReview API call failed: timeout' });
  }
  standIn.behaviour = accepts();
  t.equal((await ask(gatecar.auth, { token: 'good' })).status, 200);
});

t.test('a late yes to a question that was given up is not kept', async t => {
  const [gatecar, standIn] = await start(t, { GATECAR_REVIEW_TIMEOUT: '100ms' });
  const { promise: given, resolve: giveUp } = Promise.withResolvers<void>();
  standIn.behaviour = (request, response) => void given.then(() => accepts()(request, response));
  isOutage(t, await ask(gatecar.auth, { token: 'late' }), { text: 'TokenReview API call failed: timeout' });
  giveUp();
  standIn.behaviour = REFUSES;
  t.equal((await ask(gatecar.auth, { token: 'late' })).headers['x-gatecar-reason'], 'token_rejected');
});
