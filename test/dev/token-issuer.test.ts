import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import t from 'tap';
import { ISSUER, tokenIssuer } from '../../src/dev/token-issuer.ts';

const request = { namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] };
const part = (token: string, index: number) =>
  JSON.parse(Buffer.from(token.split('.')[index] ?? '', 'base64url').toString());
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

t.test('an issued token is an RS256 JWT with the claims of a bound ServiceAccount token', async t => {
  const issuer = tokenIssuer(() => 1_000_000);
  const token = issuer.issue({ ...request, pod: 'p', node: 'n', expiresInSeconds: 600, notBeforeSeconds: -60 });
  t.match(part(token, 0), { alg: 'RS256', kid: /^[\w-]{43}$/ });
  t.match(part(token, 1), {
    iss: ISSUER,
    sub: 'system:serviceaccount:default:my-app',
    aud: ['bindcar'],
    exp: 1600,
    nbf: 940,
    jti: /^[0-9a-f-]{36}$/,
    'kubernetes.io': {
      namespace: 'default',
      serviceaccount: { name: 'my-app', uid: issuer.uidOf('serviceaccount', 'default', 'my-app') },
      pod: { name: 'p', uid: issuer.uidOf('pod', 'default', 'p') },
      node: { name: 'n', uid: issuer.uidOf('node', 'n') },
    },
  });
  t.match(issuer.verify(token), { kind: 'ours', claims: { jti: part(token, 1).jti } });
});

t.test('without pod and lifetime a token is bound only to its account and valid for an hour', async t => {
  const token = tokenIssuer(() => 0).issue(request);
  t.match(part(token, 1), { exp: 3600, nbf: 0 });
  t.strictSame(Object.keys(part(token, 1)['kubernetes.io']), ['namespace', 'serviceaccount']);
});

t.test('issued tokens are unique, and an object’s UID is stable per issuer', async t => {
  const issuer = tokenIssuer();
  t.not(issuer.issue(request), issuer.issue(request));
  t.equal(issuer.uidOf('pod', 'a', 'b'), issuer.uidOf('pod', 'a', 'b'));
  t.not(issuer.uidOf('pod', 'a', 'b'), tokenIssuer().uidOf('pod', 'a', 'b'));
});

t.test('verify distinguishes a wrong signature, an unknown key and another issuer', async t => {
  const issuer = tokenIssuer();
  const token = issuer.issue(request);
  const [header = '', payload = '', signature = ''] = token.split('.');
  const { kid } = part(token, 0);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  t.equal(createPublicKey(privateKey).asymmetricKeyType, 'rsa');
  const signedByOtherKey = (fields: object) => {
    const signed = `${encode(fields)}.${payload}`;
    return `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;
  };
  const kinds: [token: string, kind: string][] = [
    [signedByOtherKey({ alg: 'RS256', kid }), 'wrong signature'],
    [signedByOtherKey({ alg: 'RS256' }), 'wrong signature'],
    [`${encode({ alg: 'none', kid })}.${payload}.`, 'wrong signature'],
    [signedByOtherKey({ alg: 'RS256', kid: 'other' }), 'unknown key'],
    [`${header}.${encode({ iss: 'https://elsewhere' })}.${signature}`, 'not a token of this issuer'],
    [`${header}.${encode(null)}.${signature}`, 'not a token of this issuer'],
    [`${header}.${Buffer.from('{').toString('base64url')}.${signature}`, 'not a token of this issuer'],
    [`${Buffer.from('{').toString('base64url')}.${payload}.${signature}`, 'wrong signature'],
    [`${token}==`, 'not a token of this issuer'],
    ['opaque', 'not a token of this issuer'],
    ['a.b', 'not a token of this issuer'],
    [`${token}.x`, 'not a token of this issuer'],
  ];
  for (const [text, kind] of kinds) t.equal(issuer.verify(text).kind, kind, kind);
});
