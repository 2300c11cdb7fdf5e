import { generateKeyPairSync, sign } from 'node:crypto';
import t from 'tap';
import { Token } from '../../src/credential/token.ts';
import { ISSUER, tokenIssuer } from '../../src/dev/token-issuer.ts';
import { type ClusterJwksOptions, createClusterJwks } from '../../src/jwks/cluster-jwks.ts';
import { DISCOVERY_PATH, JWKS_PATH } from '../../src/jwks/published-documents.ts';
import { KubeApiError } from '../../src/kube/api-client.ts';
import type { HttpResponse } from '../../src/kube/http-request.ts';
import { fakeClock } from '../fixtures/clock.ts';

const request = { namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] };
const cluster = tokenIssuer();
const rotated = tokenIssuer();

const json = (body: unknown, maxAgeSeconds?: number): HttpResponse => ({
  status: 200,
  body: JSON.stringify(body),
  retryAfterSeconds: undefined,
  maxAgeSeconds,
});

/** Waits until all pending promise callbacks have run. */
const settle = () => new Promise(resolve => setImmediate(resolve));

function publish(documents: Record<string, HttpResponse>, options: Partial<ClusterJwksOptions> = {}) {
  const clock = fakeClock();
  const requests: string[] = [];
  const problems: (string | undefined)[] = [];
  const timers: (() => void)[] = [];
  const keys = createClusterJwks({
    async get(path) {
      requests.push(path);
      const document = documents[path];
      if (document === undefined) throw new KubeApiError('connection_refused', 'connection refused (ECONNREFUSED)');
      return document;
    },
    withKeys: true,
    maxWaitMs: 500,
    onFetch: problem => problems.push(problem),
    now: clock.now,
    setTimer: callback => timers.push(callback),
    ...options,
  });
  return { keys, clock, requests, problems, documents, timers };
}

const published = (jwks: unknown = cluster.jwks, maxAge?: number) => ({
  [DISCOVERY_PATH]: json({ issuer: ISSUER }),
  [JWKS_PATH]: json(jwks, maxAge),
});

/** Returns the token with an invalid signature of the same length. */
function withInvalidSignature(token: string): Token {
  const [header, payload, signature = ''] = token.split('.');
  return new Token(`${header}.${payload}.${Buffer.from(signature, 'base64url').reverse().toString('base64url')}`);
}

t.test('signatures are unverifiable before the JWKS is fetched, and valid or invalid afterwards', async t => {
  const { keys, requests, problems } = publish(published());
  t.equal(keys.issuer, undefined);
  t.equal(keys.hasKeys, false);
  t.equal(keys.verify(new Token(cluster.issue(request))), 'unknown');
  keys.refresh();
  await settle();
  t.strictSame(requests, [DISCOVERY_PATH, JWKS_PATH]);
  t.strictSame(problems, [undefined]);
  t.equal(keys.issuer, ISSUER);
  t.equal(keys.hasKeys, true);
  t.equal(keys.verify(new Token(cluster.issue(request))), 'valid');
  t.equal(keys.verify(withInvalidSignature(cluster.issue(request))), 'invalid');
});

t.test('a JWKS without a usable key is not used for verification', async t => {
  for (const keys of [[], [{ ...cluster.jwks.keys[0], alg: 'EdDSA' }]]) {
    const { keys: jwks, problems } = publish(published({ keys }));
    jwks.refresh();
    await settle();
    t.strictSame(problems, [undefined]);
    t.equal(jwks.hasKeys, false);
  }
});

t.test('a slow signature check returns a promise', async t => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const { keys } = publish(published({ keys: [{ ...publicKey.export({ format: 'jwk' }), alg: 'ES384', kid: 'k' }] }));
  keys.refresh();
  await settle();
  const input = `${Buffer.from('{"alg":"ES384","kid":"k"}').toString('base64url')}.e30`;
  const signature = sign('sha384', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  const check = keys.verify(new Token(`${input}.${signature.toString('base64url')}`));
  t.type(check, Promise);
  t.equal(await check, 'valid');
  t.equal(await keys.verify(new Token(`${input}.AAAA`)), 'invalid');
});

t.test('a token without kid, with another algorithm or that is not a JWS is unverifiable', async t => {
  const { keys } = publish(published());
  keys.refresh();
  await settle();
  const [, payload, signature] = cluster.issue(request).split('.');
  const header = (fields: Record<string, string>) => Buffer.from(JSON.stringify(fields)).toString('base64url');
  const { kid } = cluster.jwks.keys[0] as { kid: string };
  for (const fields of [
    { alg: 'RS256' },
    { alg: 'none', kid },
    { alg: 'HS256', kid },
    { alg: 'RS512', kid },
    { kid },
  ]) {
    t.equal(keys.verify(new Token(`${header(fields as Record<string, string>)}.${payload}.${signature}`)), 'unknown');
  }
  for (const token of ['opaque', 'a.b.c', `${header({ alg: 'RS256', kid })}.${payload}.***`]) {
    t.equal(keys.verify(new Token(token)), 'unknown');
  }
});

t.test('an unknown kid refetches the JWKS at most every ten seconds', async t => {
  const { keys, clock, requests, documents } = publish(published());
  keys.refresh();
  await settle();
  const token = new Token(rotated.issue(request));
  clock.advance(10_000);
  t.equal(keys.verify(token), 'unknown');
  await settle();
  t.equal(requests.length, 3, 'fetched, without the new key');
  documents[JWKS_PATH] = json({ keys: [...cluster.jwks.keys, ...rotated.jwks.keys] });
  clock.advance(9999);
  for (let attempt = 0; attempt < 100; attempt += 1) t.equal(keys.verify(token), 'unknown');
  t.equal(requests.length, 3);
  clock.advance(1);
  t.equal(keys.verify(token), 'unknown');
  await settle();
  t.equal(requests.length, 4);
  t.equal(keys.verify(token), 'valid', 'the new key is known');
  t.equal(keys.verify(new Token(cluster.issue(request))), 'valid', 'the old key is still known');
});

t.test('each document is refetched after its max-age', async t => {
  for (const [maxAge, lifetime, due] of [
    [60, 60_000, [JWKS_PATH]],
    [undefined, 3_600_000, [DISCOVERY_PATH, JWKS_PATH]],
    [10_000_000, 3_600_000, [DISCOVERY_PATH, JWKS_PATH]],
  ] as const) {
    const { keys, clock, requests } = publish(published(cluster.jwks, maxAge));
    keys.refresh();
    await settle();
    clock.advance(lifetime - 1);
    keys.refresh();
    t.equal(requests.length, 2);
    clock.advance(1);
    keys.refresh();
    await settle();
    t.strictSame(requests.slice(2), due);
  }
});

t.test('each document is refetched after at most a day', async t => {
  const longLived = {
    [DISCOVERY_PATH]: json({ issuer: ISSUER }, 10_000_000),
    [JWKS_PATH]: json(cluster.jwks, 10_000_000),
  };
  const { keys, clock, requests } = publish(longLived);
  keys.refresh();
  await settle();
  clock.advance(86_399_999);
  keys.refresh();
  t.equal(requests.length, 2);
  clock.advance(1);
  keys.refresh();
  await settle();
  t.equal(requests.length, 4);
});

t.test('a changed issuer takes effect when the discovery document is refetched', async t => {
  const { keys, clock, documents } = publish(published());
  keys.refresh();
  await settle();
  documents[DISCOVERY_PATH] = json({ issuer: 'https://other' });
  clock.advance(3_599_999);
  await keys.fetchAgain();
  t.equal(keys.issuer, ISSUER);
  clock.advance(1000);
  await keys.fetchAgain();
  t.equal(keys.issuer, 'https://other');
});

t.test('a failed fetch is reported without the response, is retried and keeps the previous keys', async t => {
  const { keys, clock, problems, documents } = publish(published());
  keys.refresh();
  await settle();
  const broken: [path: string, response: HttpResponse | undefined, problem: string][] = [
    [DISCOVERY_PATH, undefined, 'connection refused (ECONNREFUSED)'],
    [DISCOVERY_PATH, { ...json({}), status: 403 }, `GET ${DISCOVERY_PATH}: HTTP 403`],
    [DISCOVERY_PATH, json({}), `GET ${DISCOVERY_PATH}: not the document that is expected`],
    [DISCOVERY_PATH, json({ issuer: '' }), `GET ${DISCOVERY_PATH}: not the document that is expected`],
    [DISCOVERY_PATH, { ...json(''), body: 'secret {' }, `GET ${DISCOVERY_PATH}: not the document that is expected`],
    [DISCOVERY_PATH, json(null), `GET ${DISCOVERY_PATH}: not the document that is expected`],
    [JWKS_PATH, { ...json({}), status: 404 }, `GET ${JWKS_PATH}: HTTP 404`],
    [JWKS_PATH, json({ keys: 1 }), `GET ${JWKS_PATH}: not the document that is expected`],
  ];
  for (const [path, response, problem] of broken) {
    Object.assign(documents, published());
    if (response === undefined) delete documents[path];
    else documents[path] = response;
    clock.advance(3_600_000);
    keys.refresh();
    await settle();
    t.equal(problems.at(-1), problem);
    t.equal(keys.issuer, ISSUER);
    t.equal(keys.verify(new Token(cluster.issue(request))), 'valid', 'the previous keys stay');
  }
  t.equal(problems.length, 1 + broken.length);
});

t.test('an unexpected error during a fetch is reported as an internal error', async t => {
  const { keys, problems } = publish({}, { get: () => Promise.reject(new TypeError('quotes something')) });
  keys.refresh();
  await settle();
  t.strictSame(problems, ['internal error']);
});

t.test('with withKeys false only the discovery document is fetched', async t => {
  const { keys, requests } = publish(published(), { withKeys: false });
  keys.refresh();
  await settle();
  t.strictSame(requests, [DISCOVERY_PATH]);
  t.equal(keys.issuer, ISSUER);
  t.equal(keys.hasKeys, false);
});

t.test('the cluster JWKS uses the real clock by default and works without onFetch', async t => {
  const documents: Record<string, HttpResponse> = published();
  const keys = createClusterJwks({
    get: async path => documents[path] as HttpResponse,
    withKeys: true,
    maxWaitMs: 500,
  });
  keys.refresh();
  await settle();
  t.equal(keys.hasKeys, true);
});

const replacing = generateKeyPairSync('rsa', { modulusLength: 2048 });

/** A JWKS with a different key under the kid of the cluster's key. */
const replacement = {
  keys: [{ ...cluster.jwks.keys[0], ...replacing.publicKey.export({ format: 'jwk' }) }],
};

/** Returns a token signed by the replacement key. */
function tokenOfReplacement(): Token {
  const token = cluster.issue(request);
  const input = token.slice(0, token.lastIndexOf('.'));
  return new Token(`${input}.${sign('sha256', Buffer.from(input), replacing.privateKey).toString('base64url')}`);
}

t.test('a token of a new key under the same kid is valid as soon as the key is published', async t => {
  const { keys, clock, requests, documents } = publish(published());
  keys.refresh();
  await settle();
  documents[JWKS_PATH] = json(replacement);
  clock.advance(1000);
  t.equal(await keys.verify(tokenOfReplacement()), 'valid', 'the check waited for the fetch');
  t.strictSame(requests.slice(2), [JWKS_PATH]);
});

t.test('a signature is found invalid only by a JWKS fetched within the last 500 ms', async t => {
  const { keys, clock, requests } = publish(published());
  keys.refresh();
  await settle();
  const invalid = withInvalidSignature(cluster.issue(request));
  t.equal(keys.confirmedUntil, clock.now() + 500);
  clock.advance(499);
  t.equal(keys.verify(invalid), 'invalid');
  t.equal(requests.length, 2);
  clock.advance(1);
  const checks = Array.from({ length: 50 }, () => keys.verify(invalid));
  t.strictSame([...new Set(await Promise.all(checks))], ['invalid'], 'all checks waited for one fetch');
  t.equal(requests.length, 3);
  t.equal(keys.verify(invalid), 'invalid', 'the next check does not fetch');
});

t.test('tokens with invalid signatures cause at most two fetches a second', async t => {
  const { keys, clock, requests, problems } = publish(published());
  keys.refresh();
  await settle();
  const invalid = withInvalidSignature(cluster.issue(request));
  for (let tenth = 0; tenth < 100; tenth += 1) {
    clock.advance(100);
    const checks = await Promise.all([keys.verify(invalid), keys.verify(withInvalidSignature(cluster.issue(request)))]);
    t.strictSame(checks, ['invalid', 'invalid']);
  }
  t.equal(problems.length, 21);
  t.equal(requests.length, 22);
});

t.test(
  'while the JWKS cannot be fetched, no signature is invalid, and the fetch is retried every ten seconds',
  async t => {
    const { keys, clock, documents, problems } = publish(published());
    keys.refresh();
    await settle();
    const invalid = withInvalidSignature(cluster.issue(request));
    delete documents[JWKS_PATH];
    clock.advance(1000);
    t.equal(await keys.verify(invalid), 'unknown');
    for (let second = 0; second < 9; second += 1) {
      clock.advance(1000);
      t.equal(await keys.verify(invalid), 'unknown');
      t.equal(keys.verify(new Token(cluster.issue(request))), 'valid', 'valid signatures are still valid');
    }
    t.equal(problems.length, 2);
    Object.assign(documents, published());
    clock.advance(1000);
    t.equal(await keys.verify(invalid), 'invalid');
    t.equal(problems.length, 3);
  },
);

t.test('a check waits at most maxWaitMs for a fetch', async t => {
  const { promise, resolve } = Promise.withResolvers<void>();
  let slow = false;
  const documents: Record<string, HttpResponse> = published();
  const { keys, clock, timers, problems } = publish(
    {},
    {
      async get(path) {
        if (slow) await promise;
        return documents[path] as HttpResponse;
      },
    },
  );
  keys.refresh();
  await settle();
  slow = true;
  clock.advance(1000);
  const invalid = withInvalidSignature(cluster.issue(request));
  const check = keys.verify(invalid);
  let settled: unknown;
  Promise.resolve(check).then(result => {
    settled = result;
  });
  await settle();
  t.equal(settled, undefined, 'the check waits');
  clock.advance(500);
  timers.at(-1)?.();
  t.equal(await check, 'unknown');
  t.equal(await keys.verify(invalid), 'unknown', 'the next check does not wait');
  t.equal(keys.fetchAgain(), undefined);
  clock.advance(10_000);
  t.equal(await keys.verify(invalid), 'unknown');
  t.equal(problems.length, 1, 'one fetch runs at a time');
  resolve();
  await settle();
  t.equal(problems.length, 2);
});

t.test('at most 256 tokens wait for a JWKS fetch', async t => {
  const { keys, clock } = publish(published());
  keys.refresh();
  await settle();
  clock.advance(1000);
  const invalid = withInvalidSignature(cluster.issue(request));
  const checks = await Promise.all(Array.from({ length: 300 }, () => keys.verify(invalid)));
  t.equal(checks.filter(check => check === 'invalid').length, 256);
  t.equal(checks.filter(check => check === 'unknown').length, 44);
  clock.advance(1000);
  t.equal(await keys.verify(invalid), 'invalid', 'waiting is possible again');
});

t.test('if API servers publish different keys under one kid, a token of either key is never invalid', async t => {
  const { keys, clock, documents, problems } = publish(published());
  keys.refresh();
  await settle();
  const invalid = withInvalidSignature(cluster.issue(request));
  documents[JWKS_PATH] = json(replacement);
  clock.advance(1000);
  t.equal(await keys.verify(tokenOfReplacement()), 'valid');
  for (let second = 0; second < 20; second += 1) {
    documents[JWKS_PATH] = json(second % 2 === 0 ? cluster.jwks : replacement);
    clock.advance(250);
    for (const token of [new Token(cluster.issue(request)), tokenOfReplacement()]) {
      t.not(await keys.verify(token), 'invalid', `${second}`);
    }
    t.equal(await keys.verify(invalid), 'invalid', 'an invalid signature is');
  }
  t.ok(problems.length <= 12, `${problems.length} fetches`);
});

t.test('a key is no longer used ten minutes after its replacement', async t => {
  const { keys, clock, documents } = publish(published());
  keys.refresh();
  await settle();
  documents[JWKS_PATH] = json(replacement);
  clock.advance(1000);
  t.equal(await keys.verify(tokenOfReplacement()), 'valid');
  t.equal(await keys.verify(new Token(cluster.issue(request))), 'unknown', 'another API server may still use it');
  clock.advance(600_000);
  t.equal(await keys.verify(new Token(cluster.issue(request))), 'invalid');
});

t.test('a slow check that started with the old JWKS does not reject a token of the new key', async t => {
  const previous = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const fresh = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const set = ({ publicKey }: typeof previous) => ({
    keys: [{ ...publicKey.export({ format: 'jwk' }), alg: 'ES384', kid: 'k' }],
  });
  const { keys, clock, documents } = publish(published(set(previous)));
  keys.refresh();
  await settle();
  const input = `${Buffer.from('{"alg":"ES384","kid":"k"}').toString('base64url')}.e30`;
  const signature = sign('sha384', Buffer.from(input), { key: fresh.privateKey, dsaEncoding: 'ieee-p1363' });
  documents[JWKS_PATH] = json(set(fresh));
  clock.advance(1000);
  const check = keys.verify(new Token(`${input}.${signature.toString('base64url')}`));
  await keys.fetchAgain();
  t.equal(await check, 'valid');
});

t.test('an unchanged JWKS document is not parsed again, and a changed one is', async t => {
  const parse = t.capture(JSON, 'parse', JSON.parse.bind(JSON));
  const { keys, clock, documents } = publish(published());
  keys.refresh();
  await settle();
  const before = parse().length;
  t.equal(before, 2, 'the discovery document and the JWKS');
  clock.advance(500);
  await keys.fetchAgain();
  t.equal(parse().length, 0);
  documents[JWKS_PATH] = json({ keys: cluster.jwks.keys, more: true });
  clock.advance(500);
  await keys.fetchAgain();
  t.equal(parse().length, 1);
});
