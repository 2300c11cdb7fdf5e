import t from 'tap';
import { parseAuthorization, presentedIn } from '../../src/credential/authorization-header.ts';
import { redact, redactor, repeatsToken } from '../../src/credential/redaction.ts';
import { Token } from '../../src/credential/token.ts';
import { newJwt, newOpaque } from '../fixtures/find-token.ts';
import { seeded } from '../fixtures/seeded-random.ts';
import { HIDDEN, leakedInAnyForm, RECOGNISABLE, SPOILED } from '../fixtures/token-encodings.ts';

/** What a log keeps of a request, and what is no token though it looks like one. */
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

t.test('what is no token stays as it was, with and without a credential', async t => {
  for (const text of HARMLESS) {
    t.equal(redact(text), text);
    for (const token of [newJwt(), newOpaque(), 'q.z', 'a-token-of-mine']) {
      t.equal(redactor(new Token(token))(text), text, text);
    }
  }
});

t.test('a plain copy is replaced in place, and the rest of the text stays', async t => {
  for (const token of [newJwt(), newOpaque(), 'abc.def']) {
    t.equal(redactor(new Token(token))(`/x/${token}/y/${token}`), '/x/[token]/y/[token]');
  }
  t.equal(redact(`a ${newJwt()} b`), 'a [token] b');
});

t.test('every encoding and every part of the presented token is removed, whatever the token is', async t => {
  const random = seeded(15);
  for (const [name, encode] of Object.entries({ ...RECOGNISABLE, ...HIDDEN })) {
    for (let round = 0; round < 20; round += 1) {
      const token = round % 2 === 0 ? newJwt() : newOpaque() + newOpaque();
      const text = `/x/${encode(token, random)}/y`.slice(0, 4096);
      t.equal(leakedInAnyForm(redactor(new Token(token))(text), token), undefined, `${name}: ${text.slice(0, 60)}`);
    }
  }
});

t.test('a JWT is found in every recognisable encoding without its credential', async t => {
  const random = seeded(16);
  for (const [name, encode] of Object.entries(RECOGNISABLE)) {
    const token = newJwt();
    t.equal(leakedInAnyForm(redact(encode(token, random)), token), undefined, name);
  }
  const [, claims = ''] = newJwt().split('.');
  t.equal(redact(`/x/${claims}`), '/x/[token]', 'the claims alone');
  t.equal(redact(`/x/${claims.slice(0, 8)}/${claims.slice(8)}`), '[token]', 'split');
});

t.test('the token of a malformed or foreign credential is removed as that of a well-formed one', async t => {
  const random = seeded(17);
  for (const spoil of SPOILED) {
    for (const encode of Object.values({ ...RECOGNISABLE, ...HIDDEN })) {
      const token = newOpaque() + newOpaque();
      const presented = presentedIn(parseAuthorization(spoil(token, random)));
      const shown = redactor(presented)(encode(token, random));
      t.equal(leakedInAnyForm(shown, token), undefined, `${spoil('TOKEN', random)}: ${encode}`);
    }
  }
});

t.test('a credential of a few characters is replaced where it stands and not looked for otherwise', async t => {
  t.equal(redactor(new Token('x.y'))('/a/x.y/xy'), '/a/[token]/xy');
  t.equal(redactor(new Token('abcdefgh'))('/a/abc/defgh'), '[token]', 'of eight characters it is');
  t.ok(redactor(new Token('a'))('a'.repeat(5000)).length <= 4096);
});

t.test('a text that is escaped more often than is undone is left out', async t => {
  t.equal(redact(`/x/%${'25'.repeat(20)}41`), '[token]');
});

t.test('no text and no credential of 64 KB takes long', async t => {
  const credential = new Token('a'.repeat(65_536));
  const texts = [
    ...['%25', 'eyJ', 'A', '\\', '&#x41', 'a/', '%u0041', `${'A'.repeat(22)}.`].map(piece => piece.repeat(70_000)),
    Buffer.from('%2541'.repeat(10_000)).toString('base64'),
    Buffer.from(Buffer.from('%2541'.repeat(10_000)).toString('base64')).toString('base64'),
  ];
  const withoutToken = redactor(credential);
  const usedBefore = process.cpuUsage();
  for (const text of texts) t.ok(withoutToken(text).length <= 4096);
  const { user } = process.cpuUsage(usedBefore);
  t.ok(user < 2_000_000, `${user} µs of CPU for ${texts.length} texts`);
});

t.test('a text repeats a token only if it holds all of it, plainly or encoded', async t => {
  for (const token of [newJwt(), newOpaque()]) {
    const value = new Token(token);
    const percent = [...token].map(character => `%${character.charCodeAt(0).toString(16)}`).join('');
    const copies = [
      ...[token, `x:${token}`, percent, Buffer.from(token).toString('hex')],
      ...['', 'u', 'u:'].map(before => Buffer.from(before + token).toString('base64')),
    ];
    for (const copy of copies) t.ok(repeatsToken(`user ${copy}`, value), copy.slice(0, 40));
    t.notOk(repeatsToken(token.slice(0, -16), value), 'a public identifier is often the beginning of a token');
    t.notOk(repeatsToken('system:serviceaccount:default:my-app', value));
  }
});
