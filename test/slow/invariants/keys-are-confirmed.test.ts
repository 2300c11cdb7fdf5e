import { generateKeyPairSync, type KeyObject, randomUUID, sign, verify } from 'node:crypto';
import t, { type Test } from 'tap';
import { DISCOVERY_PATH, JWKS_PATH } from '../../../src/jwks/published-documents.ts';
import { startGatecar } from '../../fixtures/gatecar.ts';
import { metric } from '../../fixtures/metrics.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { accepts, answers, hangs, reviews, type StandIn, startStandIn } from '../../fixtures/stand-in-api-server.ts';
import { until } from '../../fixtures/until.ts';

// A local check rejects only what the API server would reject now: the keys of a kid may change at
// any time.

const ISSUER = 'https://kubernetes.default.svc';
const KID = 'chosen-by-an-external-signer';
const INVALID_SIGNATURE = Buffer.alloc(256, 7).toString('base64url');

type Keys = { readonly publicKey: KeyObject; readonly privateKey: KeyObject };

const [first, second] = [newKeys(), newKeys()] as const;

function newKeys(): Keys {
  return generateKeyPairSync('rsa', { modulusLength: 2048 });
}

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
const jwk = ({ publicKey }: Keys, kid = KID) => ({ ...publicKey.export({ format: 'jwk' }), alg: 'RS256', kid });

function unsigned(kid = KID): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: ISSUER, aud: ['bindcar'], jti: randomUUID(), exp: now + 3600, nbf: now };
  return `${encode({ alg: 'RS256', kid })}.${encode(claims)}`;
}

function token({ privateKey }: Keys, kid = KID): string {
  const input = unsigned(kid);
  return `${input}.${sign('sha256', Buffer.from(input), privateKey).toString('base64url')}`;
}

const invalidToken = () => `${unsigned()}.${INVALID_SIGNATURE}`;

function isSignedBy({ publicKey }: Keys, jws = ''): boolean {
  const end = jws.lastIndexOf('.');
  const signature = Buffer.from(jws.slice(end + 1), 'base64url');
  return verify('sha256', Buffer.from(jws.slice(0, Math.max(end, 0))), publicKey, signature);
}

/** Accepts these keys, and publishes a set of them. */
interface Signer {
  readonly api: StandIn;
  valid: readonly Keys[];
  publish(...keys: readonly ReturnType<typeof jwk>[]): void;
}

async function startSigner(t: Test): Promise<Signer> {
  const api = await startStandIn((request, response) => {
    const isValid = signer.valid.some(keys => isSignedBy(keys, request.token));
    const behaviour = isValid ? accepts() : reviews({ error: 'invalid bearer token' });
    behaviour(request, response);
  });
  t.teardown(() => api.close());
  const signer: Signer = {
    api,
    valid: [first],
    publish(...keys) {
      api.documents[JWKS_PATH] = { keys };
    },
  };
  api.documents[DISCOVERY_PATH] = { issuer: ISSUER };
  signer.publish(jwk(first));
  return signer;
}

const LOCAL = 'gatecar_local_rejections_total{reason="signature"}';
const FAILED = 'gatecar_jwks_fetches_total{outcome="failure"}';

async function startBehind(t: Test, { api }: Signer, settings: Record<string, string> = {}) {
  const gatecar = await startGatecar({ GATECAR_KUBE_API_URL: api.url, ...settings });
  t.teardown(() => gatecar.stop());
  const readable = async () => (await metric(gatecar.ops, 'gatecar_jwks_available')) === 1;
  await until(readable);
  return {
    ...gatecar,
    status: async (bearer: string) => (await sendRequest(gatecar.auth, { token: bearer })).status,
    /** Authenticates each token. Returns the longest response time in milliseconds. */
    async passesWithin(tokens: readonly string[]): Promise<number> {
      let slowest = 0;
      for (const bearer of tokens) {
        const startedAt = performance.now();
        t.equal((await sendRequest(gatecar.auth, { token: bearer })).status, 200);
        slowest = Math.max(slowest, performance.now() - startedAt);
      }
      return slowest;
    },
    /** Sends invalid tokens for this time and asserts 401. Returns how many were sent. */
    async rejectsForMs(ms: number): Promise<number> {
      const end = performance.now() + ms;
      let count = 0;
      while (performance.now() < end) {
        const statuses = await Promise.all(
          [invalidToken(), invalidToken(), invalidToken()].map(bearer => sendRequest(gatecar.auth, { token: bearer })),
        );
        for (const { status } of statuses) t.equal(status, 401);
        count += 3;
      }
      return count;
    },
  };
}

t.test('a key is replaced under its kid: tokens of the new key pass within a second', async t => {
  const signer = await startSigner(t);
  const gatecar = await startBehind(t, signer);
  t.ok((await gatecar.passesWithin([token(first)])) < 1000);
  signer.valid = [second];
  signer.publish(jwk(second));
  // Also directly after a fetch: an invalid token has just confirmed the old key.
  const bearer = token(second);
  const startedAt = performance.now();
  await until(async () => (await gatecar.status(bearer)) === 200);
  t.ok(performance.now() - startedAt < 1000);
  t.ok((await gatecar.passesWithin([token(second), token(second)])) < 1000, 'afterwards they pass immediately');
});

t.test('a rejection by an old key is not cached: the same token passes after the key has changed', async t => {
  const signer = await startSigner(t);
  const gatecar = await startBehind(t, signer, { GATECAR_CACHE_NEGATIVE_TTL: '10m' });
  const bearer = token(second);
  t.equal(await gatecar.status(bearer), 401);
  t.equal(await gatecar.status(bearer), 401);
  t.equal(signer.api.requests.length, 0, 'no review was sent');
  signer.valid = [second];
  signer.publish(jwk(second));
  const startedAt = performance.now();
  await until(async () => (await gatecar.status(bearer)) === 200);
  t.ok(performance.now() - startedAt < 1000);
});

t.test('invalid tokens cost no review while keys can be fetched, and at most two fetches a second', async t => {
  const signer = await startSigner(t);
  const gatecar = await startBehind(t, signer);
  const before = signer.api.fetched.length;
  const startedAt = performance.now();
  const count = await gatecar.rejectsForMs(3000);
  const seconds = (performance.now() - startedAt) / 1000;
  t.ok(count > 100, `${count} invalid tokens`);
  t.equal(signer.api.requests.length, 0);
  const fetches = signer.api.fetched.length - before;
  t.ok(fetches >= 2 && fetches <= Math.floor(seconds * 2) + 1, `${fetches} fetches in ${seconds} s`);
  t.equal(await metric(gatecar.ops, LOCAL), count);
});

t.test('JWKS unavailable: valid tokens of a replaced key pass, invalid ones are reviewed', async t => {
  const html = '<html>It works!</html>';
  for (const [name, broken] of [
    ['500', answers(500, '')],
    ['404', answers(404, '')],
    ['not JSON', answers(200, html)],
    ['not a JWKS', answers(200, { keys: 1 })],
    ['an empty set', { keys: [] }],
    ['no response', hangs],
  ] as const) {
    const signer = await startSigner(t);
    const gatecar = await startBehind(t, signer, { GATECAR_REVIEW_TIMEOUT: '2s' });
    signer.valid = [first, second];
    signer.api.documents[JWKS_PATH] = broken;
    // The keys from startup confirm a rejection for a moment.
    const startedAt = performance.now();
    await until(async () => (await gatecar.status(token(second))) === 200);
    const passedMs = Math.round(performance.now() - startedAt);
    t.ok(passedMs < 1000, `${name}: ${passedMs} ms after the keys were replaced`);
    const slowest = await gatecar.passesWithin([token(second), token(first), token(second)]);
    t.ok(slowest < 1000, `${name}: ${Math.round(slowest)} ms`);
    const before = [signer.api.requests.length, signer.api.fetched.length] as const;
    t.equal(await gatecar.status(invalidToken()), 401);
    t.ok(signer.api.requests.length > before[0], `${name}: rejected by a review`);
    t.ok(signer.api.fetched.length - before[1] <= 1, `${name}: at most one fetch for it`);
  }
});

t.test('the JWKS flaps: no valid token is rejected for longer than a second', async t => {
  const signer = await startSigner(t);
  const gatecar = await startBehind(t, signer);
  signer.valid = [first, second];
  // As from two API servers that disagree, with a failure between them.
  let fetch = 0;
  signer.api.documents[JWKS_PATH] = (...args: Parameters<typeof hangs>) => {
    fetch += 1;
    const behaviour =
      fetch % 3 === 0 ? answers(500, '') : answers(200, { keys: [jwk(fetch % 3 === 1 ? second : first)] });
    behaviour(...args);
  };
  await until(async () => (await gatecar.status(token(second))) === 200);
  const end = performance.now() + 3500;
  while (performance.now() < end) {
    for (const keys of [first, second]) t.equal(await gatecar.status(token(keys)), 200);
    t.equal(await gatecar.status(invalidToken()), 401);
  }
  t.ok((await metric(gatecar.ops, FAILED)) > 0, 'a fetch has failed');
  t.ok(fetch <= 5, `${fetch} fetches`);
});

t.test('a JWKS of a thousand keys: valid tokens pass within a second, and invalid ones delay nothing', async t => {
  const signer = await startSigner(t);
  const otherKeys = Array.from({ length: 998 }, (_, index) => jwk(first, `other-${index}`));
  signer.publish(...otherKeys, jwk(first), jwk(second, 'second'));
  const gatecar = await startBehind(t, signer);
  signer.valid = [first, second];
  t.ok((await gatecar.passesWithin([token(first), token(second, 'second'), token(first, 'other-997')])) < 1000);
  await gatecar.rejectsForMs(1500);
  t.equal(signer.api.requests.length, 3);
  signer.publish(...otherKeys, jwk(second), jwk(first, 'second'));
  await until(async () => (await gatecar.status(token(second))) === 200);
  t.ok((await gatecar.passesWithin([token(second), token(first, 'second')])) < 1000);
});
