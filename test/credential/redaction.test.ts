import t from 'tap';
import { parseAuthorization, presentedIn } from '../../src/credential/authorization-header.ts';
import { redact, redactor, repeatsToken } from '../../src/credential/redaction.ts';
import { Token } from '../../src/credential/token.ts';
import { newJwt, newOpaque } from '../fixtures/find-token.ts';
import { seeded } from '../fixtures/seeded-random.ts';
import { HIDDEN, leakedInAnyForm, RECOGNISABLE, SPOILED } from '../fixtures/token-encodings.ts';

/** Texts that a log must keep unchanged. Some look like tokens. */
const HARMLESS = [
  '',
  'GET',
  '/api/v1/namespaces/default/pods/my-app-6f7c9d8b5-x2x7q/log',
  '/apis/kubernetes.io/serviceaccount/namespaces/default',
  '4bf92f3577b34da6a3ce929d0e0e4736',
  '/items/6f1c0c9e-1b0a-4f5e-9c7b-1f2e3d4c5b6a',
  `/v2/app/blobs/sha256:${'0123456789abcdef'.repeat(4)}`,
  '/surveyJobs/keyJoinTables/list.json',
  '/caf%C3%A9/%E6%BC%A2%E5%AD%97/100%25',
  '/oauth/token',
  '/v1/operations/projects/my-project/locations/europe-west3/operation-1699999999999-60a',
  'eyJ'.repeat(300),
];

t.test('texts without a token are unchanged, with and without a credential', async t => {
  for (const text of HARMLESS) {
    t.equal(redact(text), text);
    for (const token of [newJwt(), newOpaque(), 'q.z', 'a-token-of-mine']) {
      t.equal(redactor(new Token(token))(text), text, text);
    }
  }
});

t.test('plain copies of a token are replaced, and the rest of the text is kept', async t => {
  for (const token of [newJwt(), newOpaque(), 'abc.def']) {
    t.equal(redactor(new Token(token))(`/x/${token}/y/${token}`), '/x/[token]/y/[token]');
  }
  t.equal(redact(`a ${newJwt()} b`), 'a [token] b');
});

t.test('every encoding and every part of the presented token is removed', async t => {
  const random = seeded(15);
  for (const [name, encode] of Object.entries({ ...RECOGNISABLE, ...HIDDEN })) {
    for (let round = 0; round < 20; round += 1) {
      const token = round % 2 === 0 ? newJwt() : newOpaque() + newOpaque();
      const text = `/x/${encode(token, random)}/y`.slice(0, 4096);
      t.equal(leakedInAnyForm(redactor(new Token(token))(text), token), undefined, `${name}: ${text.slice(0, 60)}`);
    }
  }
});

t.test('a JWT other than the credential is removed in every recognisable encoding', async t => {
  const random = seeded(16);
  for (const [name, encode] of Object.entries(RECOGNISABLE)) {
    const token = newJwt();
    t.equal(leakedInAnyForm(redact(encode(token, random)), token), undefined, name);
  }
  const [, claims = ''] = newJwt().split('.');
  t.equal(redact(`/x/${claims}`), '/x/[token]', 'only the claims');
  t.equal(redact(`/x/${claims.slice(0, 8)}/${claims.slice(8)}`), '[token]', 'split');
});

t.test('the token of a malformed credential or another scheme is removed', async t => {
  const random = seeded(17);
  for (const spoil of SPOILED) {
    for (const encode of Object.values({ ...RECOGNISABLE, ...HIDDEN })) {
      const token = newOpaque() + newOpaque();
      const presented = presentedIn(parseAuthorization(spoil(token, random)));
      const redacted = redactor(presented)(encode(token, random));
      t.equal(leakedInAnyForm(redacted, token), undefined, `${spoil('TOKEN', random)}: ${encode}`);
    }
  }
});

t.test('a credential of fewer than eight characters is removed only where it occurs literally', async t => {
  t.equal(redactor(new Token('x.y'))('/a/x.y/xy'), '/a/[token]/xy');
  t.equal(
    redactor(new Token('abcdefgh'))('/a/abc/defgh'),
    '[token]',
    'a credential of eight characters is also found in parts',
  );
  t.ok(redactor(new Token('a'))('a'.repeat(5000)).length <= 4096);
});

t.test('a text escaped more often than the limit is removed completely', async t => {
  t.equal(redact(`/x/%${'25'.repeat(20)}41`), '[token]');
});

t.test('redaction takes at most 2 s of CPU for long texts with a credential of 64 KB', async t => {
  const credential = new Token('a'.repeat(65_536));
  const texts = [
    '%25'.repeat(70_000),
    'eyJ'.repeat(70_000),
    'A'.repeat(70_000),
    '\\'.repeat(70_000),
    '&#x41'.repeat(70_000),
    'a/'.repeat(70_000),
    '%u0041'.repeat(70_000),
    `${'A'.repeat(22)}.`.repeat(70_000),
    Buffer.from('%2541'.repeat(10_000)).toString('base64'),
    Buffer.from(Buffer.from('%2541'.repeat(10_000)).toString('base64')).toString('base64'),
  ];
  const withoutToken = redactor(credential);
  const usedBefore = process.cpuUsage();
  for (const text of texts) t.ok(withoutToken(text).length <= 4096);
  const { user } = process.cpuUsage(usedBefore);
  t.ok(user < 2_000_000, `${user} µs of CPU for ${texts.length} texts`);
});

t.test('repeatsToken finds only complete tokens, plain or encoded', async t => {
  for (const token of [newJwt(), newOpaque()]) {
    const value = new Token(token);
    const percent = [...token].map(character => `%${character.charCodeAt(0).toString(16)}`).join('');
    const copies = [
      token,
      `x:${token}`,
      percent,
      Buffer.from(token).toString('hex'),
      btoa(token),
      btoa(`u${token}`),
      btoa(`u:${token}`),
    ];
    for (const copy of copies) t.ok(repeatsToken(`user ${copy}`, value), copy.slice(0, 40));
    t.notOk(repeatsToken(token.slice(0, -16), value), 'a public identifier may equal the start of a token');
    t.notOk(repeatsToken('system:serviceaccount:default:my-app', value));
  }
});
