import { randomUUID, verify } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { startGatecar } from '../e2e/fixtures/support/gatecar-process.ts';
import { ServiceAccountKeys } from '../e2e/fixtures/support/service-account-keys.ts';
import { until } from '../e2e/fixtures/support/until.ts';
import { accepts, type Behaviour, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { FAULTS } from './fixtures/faulty-api-server.ts';
import { Load, type Tokens } from './fixtures/load.ts';
import {
  assertNoMoreResources,
  assertNoWrongResponse,
  assertRecovery,
  HEAP,
  resourcesOf,
} from './fixtures/recovery-assertions.ts';

// A stand-in for the API server is slow, cuts connections, throttles and returns wrong responses,
// under load. A wrong response that authenticates does so for invalid tokens too.

const issuer = 'https://kubernetes.default.svc';
const user = 'system:serviceaccount:apps:web';
const reviewTimeoutMs = 1_000;
/** Tolerance for a busy machine. */
const marginMs = 2_000;
const maxConcurrency = 8;
const lastsMs = 2_500;

t.setTimeout(10 * 60_000);

t.test('gatecar survives chaos of a stand-in for the API server', async t => {
  const [keys, otherKeys] = await Promise.all([ServiceAccountKeys.generate(), ServiceAccountKeys.generate()]);
  const claims = () => {
    const now = Math.floor(Date.now() / 1_000);
    return { iss: issuer, sub: user, aud: ['bindcar'], jti: randomUUID(), iat: now, nbf: now, exp: now + 3_600 };
  };
  const tokens: Tokens = {
    newToken: () => keys.sign(claims()),
    wronglySigned: () => otherKeys.sign(claims(), { kid: keys.kid }),
  };
  const isValid = (token: string) => {
    const end = token.lastIndexOf('.');
    const signature = Buffer.from(token.slice(end + 1), 'base64url');
    return end > 0 && verify('sha256', Buffer.from(token.slice(0, end)), keys.publicKey, signature);
  };
  const authenticated = accepts({ user: { username: user, uid: 'u', groups: ['system:authenticated'] } });
  const rejected = reviews({ error: 'invalid bearer token' });
  const correct: Behaviour = (request, response) => {
    standIn.requests.length = 0;
    const behaviour = isValid(request.token ?? '') ? authenticated : rejected;
    behaviour(request, response);
  };
  const standIn = await startStandIn(correct);
  t.teardown(() => standIn.close());
  const jwk = { ...keys.publicKey.export({ format: 'jwk' }), kid: keys.kid, alg: 'RS256', use: 'sig' };
  standIn.documents['/.well-known/openid-configuration'] = { issuer, jwks_uri: `${issuer}/openid/v1/jwks` };
  standIn.documents['/openid/v1/jwks'] = { keys: [jwk] };

  const gatecar = await startGatecar(t, {
    ...HEAP,
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_CACHE_TTL: '2s',
    // A rejection by the API server is forgotten as soon as the API server accepts the token.
    GATECAR_CACHE_NEGATIVE_TTL: '0s',
    GATECAR_REVIEW_TIMEOUT: `${reviewTimeoutMs}ms`,
    GATECAR_REVIEW_MAX_CONCURRENCY: String(maxConcurrency),
  });
  const startLoad = (expectedDenials: readonly string[]) =>
    new Load({ auth: gatecar.auth, tokens, user, lateAfterMs: reviewTimeoutMs + marginMs, expectedDenials });
  const allAnswered = async (load: Load) => {
    const before = { cached: load.count('cached', 200), new: load.count('new', 200) };
    await until('every kind of request gets its result', async () => {
      const isAnswered = load.count('cached', 200) > before.cached + 5 && load.count('new', 200) > before.new + 5;
      return isAnswered && load.count('opaque', 401) > 5 && load.count('wrongly signed', 401) > 5;
    });
  };

  const warmUp = startLoad([]);
  await allAnswered(warmUp);
  await pause(lastsMs);
  await assertNoWrongResponse(t, warmUp);
  const before = await resourcesOf(gatecar);

  for (const { name, respond, expected, denial } of FAULTS) {
    await t.test(`API server fault, ${name}: no wrong response, and gatecar recovers`, async t => {
      const load = startLoad(denial === undefined ? [] : [denial]);
      t.teardown(() => load.stop());
      await allAnswered(load);
      const status = denial === undefined ? 503 : 401;
      const [failedBefore, passedBefore] = [load.count('new', status), load.count('new', 200)];
      standIn.behaviour = respond(correct);
      await pause(lastsMs);
      const failed = load.count('new', status) - failedBefore;
      t.ok(expected === 200 ? failed === 0 : failed > 3, `${failed} new tokens got ${status}`);
      if (expected !== 503) t.ok(load.count('new', 200) > passedBefore + 5, 'other new tokens pass');
      standIn.behaviour = correct;
      await assertRecovery(t, gatecar, tokens.newToken);
      await allAnswered(load);
      await assertNoWrongResponse(t, load);
      await assertNoMoreResources(t, gatecar, before, maxConcurrency);
    });
  }

  await t.test('after all faults gatecar holds no more resources than before', async t => {
    await assertNoMoreResources(t, gatecar, before, 2);
  });
});
