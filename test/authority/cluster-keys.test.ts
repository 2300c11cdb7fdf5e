import { generateKeyPairSync, sign } from 'node:crypto';
import t from 'tap';
import { type ClusterKeysOptions, clusterKeys, DISCOVERY_PATH, JWKS_PATH } from '../../src/authority/cluster-keys.ts';
import { KubeConnectionError } from '../../src/authority/kube-connection.ts';
import type { HttpAnswer } from '../../src/authority/review-answer.ts';
import { Token } from '../../src/credential/token.ts';
import { ISSUER, tokenIssuer } from '../../src/dev/token-issuer.ts';
import { fakeClock } from '../fixtures/clock.ts';

const request = { namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] };
const cluster = tokenIssuer();
const rotated = tokenIssuer();

const json = (body: unknown, maxAgeSeconds?: number): HttpAnswer => ({
  ...{ status: 200, body: JSON.stringify(body), retryAfterSeconds: undefined, maxAgeSeconds },
});

/** Lets every continuation that is due run. */
const settle = () => new Promise(resolve => setImmediate(resolve));

function publish(documents: Record<string, HttpAnswer>, options: Partial<ClusterKeysOptions> = {}) {
  const clock = fakeClock();
  const asked: string[] = [];
  const problems: (string | undefined)[] = [];
  const keys = clusterKeys({
    async get(path) {
      asked.push(path);
      const document = documents[path];
      if (document === undefined)
        throw new KubeConnectionError('connection refused', 'connection refused (ECONNREFUSED)');
      return document;
    },
    withKeys: true,
    onFetch: problem => problems.push(problem),
    now: clock.now,
    ...options,
  });
  return { keys, clock, asked, problems, documents };
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
  t.equal(asked.length, 4, 'asked, to no avail');
  documents[JWKS_PATH] = json({ keys: [...cluster.jwks.keys, ...rotated.jwks.keys] });
  clock.advance(9999);
  for (let time = 0; time < 100; time += 1) t.equal(keys.verify(token), 'unknown');
  t.equal(asked.length, 4);
  clock.advance(1);
  t.equal(keys.verify(token), 'unknown');
  await settle();
  t.equal(asked.length, 6);
  t.equal(keys.verify(token), 'good', 'the rotation is known');
  t.equal(keys.verify(new Token(cluster.issue(request))), 'good', 'and the old key still is');
});

t.test('the documents are asked for anew when the server’s time for them is over', async t => {
  for (const [maxAge, lifetime] of [
    [60, 60_000],
    [undefined, 3_600_000],
    [10_000_000, 86_400_000],
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
    t.equal(asked.length, 4);
  }
});

t.test('what cannot be had or read is told in our own words, asked for again, and takes nothing away', async t => {
  const { keys, clock, problems, documents } = publish(published());
  keys.refresh();
  await settle();
  const broken: [path: string, answer: HttpAnswer | undefined, problem: string][] = [
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
  t.strictSame(problems, ['internal error']);
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
  const documents: Record<string, HttpAnswer> = published();
  const keys = clusterKeys({ get: async path => documents[path] as HttpAnswer, withKeys: true });
  keys.refresh();
  await settle();
  t.equal(keys.held, true);
});
