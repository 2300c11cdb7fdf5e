import { randomUUID, verify } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { startGatecar } from '../e2e/fixtures/support/gatecar-process.ts';
import { ServiceAccountKeys } from '../e2e/fixtures/support/service-account-keys.ts';
import { until } from '../e2e/fixtures/support/until.ts';
import { accepts, type Behaviour, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { TROUBLES } from './fixtures/faulty-api-server.ts';
import { Load, type Tokens } from './fixtures/load.ts';
import { HEAP, hasDoneNoWrong, heldBy, holdsNoMore, recovers } from './fixtures/recovery-assertions.ts';

// What stands in the API server's place is slow, cuts, throttles and lies, under load. A lie that says yes says it to junk too.

const issuer = 'https://kubernetes.default.svc';
const user = 'system:serviceaccount:apps:web';
const reviewTimeoutMs = 1_000;
/** For a machine that does other things as well. */
const marginMs = 2_000;
const maxConcurrency = 8;
const lastsMs = 2_500;

t.setTimeout(10 * 60_000);

t.test('chaos of what stands in its place', async t => {
  const [keys, otherKeys] = await Promise.all([ServiceAccountKeys.generate(), ServiceAccountKeys.generate()]);
  const claims = () => {
    const now = Math.floor(Date.now() / 1_000);
    return { iss: issuer, sub: user, aud: ['bindcar'], jti: randomUUID(), iat: now, nbf: now, exp: now + 3_600 };
  };
  const tokens: Tokens = {
    fresh: () => keys.sign(claims()),
    wronglySigned: () => otherKeys.sign(claims(), { kid: keys.kid }),
  };
  const isGood = (token: string) => {
    const end = token.lastIndexOf('.');
    const signature = Buffer.from(token.slice(end + 1), 'base64url');
    return end > 0 && verify('sha256', Buffer.from(token.slice(0, end)), keys.publicKey, signature);
  };
  const yes = accepts({ user: { username: user, uid: 'u', groups: ['system:authenticated'] } });
  const no = reviews({ error: 'invalid bearer token' });
  const honest: Behaviour = (request, response) => {
    standIn.requests.length = 0;
    const behaviour = isGood(request.token ?? '') ? yes : no;
    behaviour(request, response);
  };
  const standIn = await startStandIn(honest);
  t.teardown(() => standIn.close());
  const jwk = { ...keys.publicKey.export({ format: 'jwk' }), kid: keys.kid, alg: 'RS256', use: 'sig' };
  standIn.documents['/.well-known/openid-configuration'] = { issuer, jwks_uri: `${issuer}/openid/v1/jwks` };
  standIn.documents['/openid/v1/jwks'] = { keys: [jwk] };

  const gatecar = await startGatecar(t, {
    ...HEAP,
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_CACHE_TTL: '2s',
    // A refusal that is the API server's own word is forgotten as soon as it says otherwise.
    GATECAR_CACHE_NEGATIVE_TTL: '0s',
    GATECAR_REVIEW_TIMEOUT: `${reviewTimeoutMs}ms`,
    GATECAR_REVIEW_MAX_CONCURRENCY: String(maxConcurrency),
  });
  const loadOn = (refusals: readonly string[]) =>
    new Load({ auth: gatecar.auth, tokens, user, lateAfterMs: reviewTimeoutMs + marginMs, refusals });
  const atWork = async (load: Load) => {
    const before = { known: load.count('known', 200), fresh: load.count('fresh', 200) };
    await until('every caller has its due', async () => {
      const isAnswered = load.count('known', 200) > before.known + 5 && load.count('fresh', 200) > before.fresh + 5;
      return isAnswered && load.count('opaque junk', 401) > 5 && load.count('wrongly signed', 401) > 5;
    });
  };

  const warm = loadOn([]);
  await atWork(warm);
  await pause(lastsMs);
  await hasDoneNoWrong(t, warm);
  const before = await heldBy(gatecar);

  for (const { name, does, told, refusal } of TROUBLES) {
    await t.test(name, async t => {
      const load = loadOn(refusal === undefined ? [] : [refusal]);
      t.teardown(() => load.stop());
      await atWork(load);
      const status = refusal === undefined ? 503 : 401;
      const [unasked, passed] = [load.count('fresh', status), load.count('fresh', 200)];
      standIn.behaviour = does(honest);
      await pause(lastsMs);
      const felt = load.count('fresh', status) - unasked;
      t.ok(told === 200 ? felt === 0 : felt > 3, `${felt} new tokens were told ${status}`);
      if (told !== 503) t.ok(load.count('fresh', 200) > passed + 5, 'others pass');
      standIn.behaviour = honest;
      await recovers(t, gatecar, tokens.fresh);
      await atWork(load);
      await hasDoneNoWrong(t, load);
      await holdsNoMore(t, gatecar, before, maxConcurrency);
    });
  }

  await t.test('after all of it, it holds what it held', async t => {
    await holdsNoMore(t, gatecar, before, 2);
  });
});
