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
  ...{ status: 200, body: JSON.stringify(body), retryAfterSeconds: undefined, maxAgeSeconds },
});

/** Lets every continuation that is due run. */
const settle = () => new Promise(resolve => setImmediate(resolve));

function publish(documents: Record<string, HttpResponse>, options: Partial<ClusterJwksOptions> = {}) {
  const clock = fakeClock();
  const asked: string[] = [];
  const problems: (string | undefined)[] = [];
  const timers: (() => void)[] = [];
  const keys = createClusterJwks({
    async get(path) {
      asked.push(path);
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
  return { keys, clock, asked, problems, documents, timers };
}

const published = (jwks: unknown = cluster.jwks, maxAge?: number) => ({
  [DISCOVERY_PATH]: json({ issuer: ISSUER }),
  [JWKS_PATH]: json(jwks, maxAge),
});

/** The token with another signature, of the right length. */
function forged(token: string): Token {
  const [header, payload, signature = ''] = token.split('.');
  return new Token(`${header}.${payload}.${Buffer.from(signature, 'base64url').reverse().toString('base64url')}`);
}

t.test('before the documents have come nothing is known, and afterwards signatures are told apart', async t => {
  const { keys, asked, problems } = publish(published());
  t.equal(keys.issuer, undefined);
  t.equal(keys.held, false);
  t.equal(keys.verify(new Token(cluster.issue(request))), 'unknown');
  keys.refresh();
  await settle();
  t.strictSame(asked, [DISCOVERY_PATH, JWKS_PATH]);
  t.strictSame(problems, [undefined]);
  t.equal(keys.issuer, ISSUER);
  t.equal(keys.held, true);
  t.equal(keys.verify(new Token(cluster.issue(request))), 'good');
  t.equal(keys.verify(forged(cluster.issue(request))), 'bad');
});

t.test('a document without a key that we can use is none to verify with', async t => {
  for (const keys of [[], [{ ...cluster.jwks.keys[0], alg: 'EdDSA' }]]) {
    const { keys: none, problems } = publish(published({ keys }));
    none.refresh();
    await settle();
    t.strictSame(problems, [undefined]);
    t.equal(none.held, false);
  }
});

t.test('what takes long to check is said later', async t => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const { keys } = publish(published({ keys: [{ ...publicKey.export({ format: 'jwk' }), alg: 'ES384', kid: 'k' }] }));
  keys.refresh();
  await settle();
  const input = `${Buffer.from('{"alg":"ES384","kid":"k"}').toString('base64url')}.e30`;
  const signature = sign('sha384', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  const check = keys.verify(new Token(`${input}.${signature.toString('base64url')}`));
  t.type(check, Promise);
  t.equal(await check, 'good');
  t.equal(await keys.verify(new Token(`${input}.AAAA`)), 'bad');
});

t.test('nothing is certain about a token that names no key, or another algorithm, or is no JWS', async t => {
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

t.test('a key that is not known is asked for, at most every ten seconds, whatever names are made up', async t => {
  const { keys, clock, asked, documents } = publish(published());
  keys.refresh();
  await settle();
  const token = new Token(rotated.issue(request));
  clock.advance(10_000);
  t.equal(keys.verify(token), 'unknown');
  await settle();
  t.equal(asked.length, 3, 'asked, to no avail');
  documents[JWKS_PATH] = json({ keys: [...cluster.jwks.keys, ...rotated.jwks.keys] });
  clock.advance(9999);
  for (let time = 0; time < 100; time += 1) t.equal(keys.verify(token), 'unknown');
  t.equal(asked.length, 3);
  clock.advance(1);
  t.equal(keys.verify(token), 'unknown');
  await settle();
  t.equal(asked.length, 4);
  t.equal(keys.verify(token), 'good', 'the rotation is known');
  t.equal(keys.verify(new Token(cluster.issue(request))), 'good', 'and the old key still is');
});

t.test('each document is fetched again when the server’s time for it is over', async t => {
  for (const [maxAge, lifetime, due] of [
    [60, 60_000, [JWKS_PATH]],
    [undefined, 3_600_000, [DISCOVERY_PATH, JWKS_PATH]],
    [10_000_000, 3_600_000, [DISCOVERY_PATH, JWKS_PATH]],
  ] as const) {
    const { keys, clock, asked } = publish(published(cluster.jwks, maxAge));
    keys.refresh();
    await settle();
    clock.advance(lifetime - 1);
    keys.refresh();
    t.equal(asked.length, 2);
    clock.advance(1);
    keys.refresh();
    await settle();
    t.strictSame(asked.slice(2), due);
  }
});

t.test('no document is current for longer than a day', async t => {
  const forever = {
    [DISCOVERY_PATH]: json({ issuer: ISSUER }, 10_000_000),
    [JWKS_PATH]: json(cluster.jwks, 10_000_000),
  };
  const { keys, clock, asked } = publish(forever);
  keys.refresh();
  await settle();
  clock.advance(86_399_999);
  keys.refresh();
  t.equal(asked.length, 2);
  clock.advance(1);
  keys.refresh();
  await settle();
  t.equal(asked.length, 4);
});

t.test('another issuer is taken when its document is fetched again', async t => {
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

t.test('what cannot be had or read is told in our own words, asked for again, and takes nothing away', async t => {
  const { keys, clock, problems, documents } = publish(published());
  keys.refresh();
  await settle();
  const broken: [path: string, answer: HttpResponse | undefined, problem: string][] = [
    [DISCOVERY_PATH, undefined, 'connection refused (ECONNREFUSED)'],
    [DISCOVERY_PATH, { ...json({}), status: 403 }, `GET ${DISCOVERY_PATH}: HTTP 403`],
    [DISCOVERY_PATH, json({}), `GET ${DISCOVERY_PATH}: not the document that is expected`],
    [DISCOVERY_PATH, json({ issuer: '' }), `GET ${DISCOVERY_PATH}: not the document that is expected`],
    [DISCOVERY_PATH, { ...json(''), body: 'secret {' }, `GET ${DISCOVERY_PATH}: not the document that is expected`],
    [DISCOVERY_PATH, json(null), `GET ${DISCOVERY_PATH}: not the document that is expected`],
    [JWKS_PATH, { ...json({}), status: 404 }, `GET ${JWKS_PATH}: HTTP 404`],
    [JWKS_PATH, json({ keys: 1 }), `GET ${JWKS_PATH}: not the document that is expected`],
  ];
  for (const [path, answer, problem] of broken) {
    Object.assign(documents, published());
    if (answer === undefined) delete documents[path];
    else documents[path] = answer;
    clock.advance(3_600_000);
    keys.refresh();
    await settle();
    t.equal(problems.at(-1), problem);
    t.equal(keys.issuer, ISSUER);
    t.equal(keys.verify(new Token(cluster.issue(request))), 'good', 'what was known stays');
  }
  t.equal(problems.length, 1 + broken.length);
});

t.test('an error nobody foresaw is told as such', async t => {
  const { keys, problems } = publish({}, { get: () => Promise.reject(new TypeError('quotes something')) });
  keys.refresh();
  await settle();
  t.strictSame(problems, ['internal_error']);
});

t.test('the issuer can be had without keys', async t => {
  const { keys, asked } = publish(published(), { withKeys: false });
  keys.refresh();
  await settle();
  t.strictSame(asked, [DISCOVERY_PATH]);
  t.equal(keys.issuer, ISSUER);
  t.equal(keys.held, false);
});

t.test('the real clock is taken, and nobody has to be told', async t => {
  const documents: Record<string, HttpResponse> = published();
  const keys = createClusterJwks({
    get: async path => documents[path] as HttpResponse,
    withKeys: true,
    maxWaitMs: 500,
  });
  keys.refresh();
  await settle();
  t.equal(keys.held, true);
});

const replacing = generateKeyPairSync('rsa', { modulusLength: 2048 });

/** Another key under the name of the cluster's. */
const replacement = {
  keys: [{ ...cluster.jwks.keys[0], ...replacing.publicKey.export({ format: 'jwk' }) }],
};

/** Signed by that key. */
function ofReplacement(): Token {
  const token = cluster.issue(request);
  const signed = token.slice(0, token.lastIndexOf('.'));
  return new Token(`${signed}.${sign('sha256', Buffer.from(signed), replacing.privateKey).toString('base64url')}`);
}

t.test('a token of a new key under the same kid passes as soon as that is published', async t => {
  const { keys, clock, asked, documents } = publish(published());
  keys.refresh();
  await settle();
  documents[JWKS_PATH] = json(replacement);
  clock.advance(1000);
  t.equal(await keys.verify(ofReplacement()), 'good', 'it waited for the fetch');
  t.strictSame(asked.slice(2), [JWKS_PATH]);
});

t.test('a signature is bad only by keys that were fetched within the last half second', async t => {
  const { keys, clock, asked } = publish(published());
  keys.refresh();
  await settle();
  const junk = forged(cluster.issue(request));
  t.equal(keys.confirmedUntil, clock.now() + 500);
  clock.advance(499);
  t.equal(keys.verify(junk), 'bad');
  t.equal(asked.length, 2);
  clock.advance(1);
  const checks = Array.from({ length: 50 }, () => keys.verify(junk));
  t.strictSame([...new Set(await Promise.all(checks))], ['bad'], 'all waited for one fetch');
  t.equal(asked.length, 3);
  t.equal(keys.verify(junk), 'bad', 'and the next need not');
});

t.test('forged tokens cost two fetches a second at most', async t => {
  const { keys, clock, asked, problems } = publish(published());
  keys.refresh();
  await settle();
  const junk = forged(cluster.issue(request));
  for (let tenth = 0; tenth < 100; tenth += 1) {
    clock.advance(100);
    const checks = await Promise.all([keys.verify(junk), keys.verify(forged(cluster.issue(request)))]);
    t.strictSame(checks, ['bad', 'bad']);
  }
  t.equal(problems.length, 21);
  t.equal(asked.length, 22);
});

t.test('keys that cannot be fetched confirm nothing, and are asked for every ten seconds', async t => {
  const { keys, clock, documents, problems } = publish(published());
  keys.refresh();
  await settle();
  const junk = forged(cluster.issue(request));
  delete documents[JWKS_PATH];
  clock.advance(1000);
  t.equal(await keys.verify(junk), 'unknown');
  for (let second = 0; second < 9; second += 1) {
    clock.advance(1000);
    t.equal(await keys.verify(junk), 'unknown');
    t.equal(keys.verify(new Token(cluster.issue(request))), 'good', 'what they sign is still known');
  }
  t.equal(problems.length, 2);
  Object.assign(documents, published());
  clock.advance(1000);
  t.equal(await keys.verify(junk), 'bad');
  t.equal(problems.length, 3);
});

t.test('a fetch that takes too long is not waited for', async t => {
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
  const junk = forged(cluster.issue(request));
  const check = keys.verify(junk);
  let known: unknown;
  Promise.resolve(check).then(one => {
    known = one;
  });
  await settle();
  t.equal(known, undefined, 'it waits');
  clock.advance(500);
  timers.at(-1)?.();
  t.equal(await check, 'unknown');
  t.equal(await keys.verify(junk), 'unknown', 'the next does not wait');
  t.equal(keys.fetchAgain(), undefined);
  clock.advance(10_000);
  t.equal(await keys.verify(junk), 'unknown');
  t.equal(problems.length, 1, 'and there is one fetch at a time');
  resolve();
  await settle();
  t.equal(problems.length, 2);
});

t.test('no more than 256 tokens wait for a fetch', async t => {
  const { keys, clock } = publish(published());
  keys.refresh();
  await settle();
  clock.advance(1000);
  const junk = forged(cluster.issue(request));
  const checks = await Promise.all(Array.from({ length: 300 }, () => keys.verify(junk)));
  t.equal(checks.filter(check => check === 'bad').length, 256);
  t.equal(checks.filter(check => check === 'unknown').length, 44);
  clock.advance(1000);
  t.equal(await keys.verify(junk), 'bad', 'there is room again');
});

t.test('API servers that publish different keys of one name: a token of either is never bad', async t => {
  const { keys, clock, documents, problems } = publish(published());
  keys.refresh();
  await settle();
  const junk = forged(cluster.issue(request));
  documents[JWKS_PATH] = json(replacement);
  clock.advance(1000);
  t.equal(await keys.verify(ofReplacement()), 'good');
  for (let second = 0; second < 20; second += 1) {
    documents[JWKS_PATH] = json(second % 2 === 0 ? cluster.jwks : replacement);
    clock.advance(250);
    for (const token of [new Token(cluster.issue(request)), ofReplacement()]) {
      t.not(await keys.verify(token), 'bad', `${second}`);
    }
    t.equal(await keys.verify(junk), 'bad', 'forged ones are');
  }
  t.ok(problems.length <= 12, `${problems.length} fetches`);
});

t.test('a key that was replaced long ago counts no more', async t => {
  const { keys, clock, documents } = publish(published());
  keys.refresh();
  await settle();
  documents[JWKS_PATH] = json(replacement);
  clock.advance(1000);
  t.equal(await keys.verify(ofReplacement()), 'good');
  t.equal(await keys.verify(new Token(cluster.issue(request))), 'unknown', 'another API server may still use it');
  clock.advance(600_000);
  t.equal(await keys.verify(new Token(cluster.issue(request))), 'bad');
});

t.test('a check that takes long is not confirmed by keys that came meanwhile', async t => {
  const old = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const fresh = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const set = ({ publicKey }: typeof old) => ({
    keys: [{ ...publicKey.export({ format: 'jwk' }), alg: 'ES384', kid: 'k' }],
  });
  const { keys, clock, documents } = publish(published(set(old)));
  keys.refresh();
  await settle();
  const input = `${Buffer.from('{"alg":"ES384","kid":"k"}').toString('base64url')}.e30`;
  const signature = sign('sha384', Buffer.from(input), { key: fresh.privateKey, dsaEncoding: 'ieee-p1363' });
  documents[JWKS_PATH] = json(set(fresh));
  clock.advance(1000);
  const check = keys.verify(new Token(`${input}.${signature.toString('base64url')}`));
  await keys.fetchAgain();
  t.equal(await check, 'good');
});

t.test('the same set is not parsed again, and another one with the same keys is', async t => {
  const parse = t.capture(JSON, 'parse', JSON.parse.bind(JSON));
  const { keys, clock, documents } = publish(published());
  keys.refresh();
  await settle();
  const before = parse().length;
  t.equal(before, 2, 'the issuer and the keys');
  clock.advance(500);
  await keys.fetchAgain();
  t.equal(parse().length, 0);
  documents[JWKS_PATH] = json({ keys: cluster.jwks.keys, more: true });
  clock.advance(500);
  await keys.fetchAgain();
  t.equal(parse().length, 1);
});
