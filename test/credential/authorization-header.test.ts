import t from 'tap';
import { parseAuthorization, presentedIn, readCredential } from '../../src/credential/authorization-header.ts';
import { revealToken } from '../../src/credential/token.ts';

/** Returns `token` and the token's characters, or the kind of another result. */
function read(value: string | undefined): string {
  const credential = parseAuthorization(value);
  return credential.kind === 'token' ? `token ${revealToken(credential.token)}` : credential.kind;
}

t.test('a missing or empty Authorization header is absent', async t => {
  t.equal(read(undefined), 'absent');
  t.equal(read(''), 'absent');
  t.equal(readCredential([]).kind, 'absent');
  t.equal(readCredential(['Host', 'x']).kind, 'absent');
  t.equal(readCredential(['Authorization', '']).kind, 'absent');
});

t.test('the Bearer scheme is case-insensitive', async t => {
  const letters = [...'bearer'];
  for (let mask = 0; mask < 2 ** letters.length; mask++) {
    const scheme = letters.map((letter, at) => (mask & (1 << at) ? letter.toUpperCase() : letter)).join('');
    t.equal(read(`${scheme} abc`), 'token abc', scheme);
    t.equal(read(scheme), 'empty', `${scheme} without a token`);
  }
});

t.test('the Bearer scheme without a token is an empty token', async t => {
  t.equal(read('Bearer'), 'empty');
  t.equal(read('Bearer '), 'empty');
});

t.test('a scheme other than Bearer is foreign', async t => {
  for (const value of [
    ' Bearer abc',
    '\tBearer abc',
    'Basic dXNlcjpwYXNz',
    'Negotiate abc',
    'Token abc',
    'DPoP abc',
    'Bear abc',
    'abc',
    ' ',
    ',',
  ]) {
    t.equal(read(value), 'other_scheme', JSON.stringify(value));
  }
});

t.test('a scheme that only starts with Bearer is foreign', async t => {
  for (const value of ['Bearers abc', 'Bearerabc', 'BEARER-TOKEN abc', 'Bearer_ abc']) {
    t.equal(read(value), 'other_scheme', value);
  }
});

t.test('a credential without a space after Bearer is malformed', async t => {
  for (const value of ['Bearer=abc', 'Bearer:abc', 'Bearer,abc', 'Bearer\u00a0abc']) {
    t.equal(read(value), 'malformed', JSON.stringify(value));
  }
});

t.test('a token may have all characters of RFC 6750 and no others', async t => {
  const allowed = '+-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~';
  const latin1 = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code));
  const characters = [...latin1, '\u0100', '\u2028', '\u2029', '\u3000', '\ufeff', '\uff0e', '\ud800', '😀'];
  const acceptedIn = (toToken: (character: string) => string): string =>
    characters.filter(character => read(`Bearer ${toToken(character)}`) === `token ${toToken(character)}`).join('');
  t.equal(
    acceptedIn(character => character),
    allowed,
    'as the whole token',
  );
  t.equal(
    acceptedIn(character => `${character}b`),
    allowed,
    'at the beginning',
  );
  t.equal(
    acceptedIn(character => `a${character}b`),
    allowed,
    'in the middle',
  );
  t.equal(
    acceptedIn(character => `ab${character}`),
    allowed.replace('A', '=A'),
    'at the end',
  );
  const malformed = characters.filter(character => read(`Bearer a${character}b`) === 'malformed');
  t.equal(malformed.length, characters.length - allowed.length);
});

t.test('equals signs are allowed only as padding at the end of a token', async t => {
  t.equal(read('Bearer a='), 'token a=');
  t.equal(read('Bearer a==='), 'token a===');
  for (const token of ['=', '==', '=a', 'a=b', 'a==b=']) t.equal(read(`Bearer ${token}`), 'malformed', token);
});

t.test('exactly one space separates scheme and token, and no other white space is allowed', async t => {
  const values = [
    'Bearer  abc',
    'Bearer   ',
    'Bearer\tabc',
    'Bearer \tabc',
    'Bearer\t',
    'Bearer\nabc',
    'Bearer abc ',
    'Bearer abc\t',
    'Bearer abc def',
    'Bearer abc Bearer abc',
    'Bearer abc\n',
    'Bearer abc\r\n',
    'Bearer abc\r\nX-Other: 1',
    'Bearer abc\0',
  ];
  for (const value of values) t.equal(read(value), 'malformed', JSON.stringify(value));
});

t.test('credentials that a gateway joined with commas are malformed', async t => {
  for (const value of ['Bearer abc, Bearer abc', 'Bearer abc,Bearer def', 'Bearer abc,', 'Bearer ,abc']) {
    t.equal(read(value), 'malformed', value);
  }
});

t.test('two Authorization headers are malformed, even if one is empty or of another scheme', async t => {
  const credential = 'Bearer abc';
  t.equal(readCredential(['Authorization', credential, 'Authorization', credential]).kind, 'malformed');
  t.equal(readCredential(['Authorization', credential, 'Host', 'x', 'authorization', 'Bearer def']).kind, 'malformed');
  t.equal(readCredential(['AUTHORIZATION', '', 'Authorization', credential]).kind, 'malformed');
  t.equal(readCredential(['Authorization', credential, 'Authorization', '']).kind, 'malformed');
  t.equal(readCredential(['Authorization', '', 'Authorization', '']).kind, 'malformed');
  t.equal(readCredential(['Authorization', credential, 'Authorization', 'Basic abc']).kind, 'malformed');
});

t.test('the Authorization header is found by its exact name, case-insensitively and at any position', async t => {
  for (const name of ['Authorization', 'authorization', 'AUTHORIZATION', 'aUTHORIZATIOn']) {
    t.equal(readCredential(['Host', 'x', name, 'Bearer abc', 'Accept', '*/*']).kind, 'token', name);
  }
  for (const name of ['Authorisation', 'X-Authorization', 'Authorization2', 'Proxy-Authorization']) {
    t.equal(readCredential([name, 'Bearer abc']).kind, 'absent', name);
  }
  t.equal(
    readCredential(['X-Other', 'Authorization', 'Bearer abc', 'x']).kind,
    'absent',
    'a value is not read as a name',
  );
});

t.test('presentedIn returns the credential of all Authorization headers for redaction', async t => {
  const presented = (...values: string[]) => {
    const token = presentedIn(readCredential(values.flatMap(value => ['Authorization', value])));
    return token && revealToken(token);
  };
  t.equal(presented('Bearer abc'), 'abc');
  t.equal(presented('Bearer  abc'), ' abc');
  t.equal(presented('Bearer\tabc'), '\tabc');
  t.equal(presented('Basic abc'), 'Basic abc');
  t.equal(presented('Bearer abc', '', 'Bearer def'), 'Bearer abc  Bearer def');
  for (const value of ['', 'Bearer', 'Bearer ']) t.equal(presented(value), undefined);
  t.equal(presented(), undefined);
});

t.test('a token of 100 KB is read completely, and one invalid character at its end makes it malformed', async t => {
  const long = 'a'.repeat(100 * 1024);
  t.ok(read(`Bearer ${long}`) === `token ${long}`);
  t.equal(read(`Bearer ${long}!`), 'malformed');
  t.equal(read(`Bearer ${long}${'='.repeat(100 * 1024)}!`), 'malformed');
});
