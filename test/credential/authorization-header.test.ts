import t from 'tap';
import { parseAuthorization, presentedIn, readCredential } from '../../src/credential/authorization-header.ts';
import { revealToken } from '../../src/credential/token.ts';

/** The token that was read, or what was found instead. */
function read(value: string | undefined): string {
  const credential = parseAuthorization(value);
  return credential.kind === 'token' ? `token ${revealToken(credential.token)}` : credential.kind;
}

t.test('no header, or an empty one, is absent', async t => {
  t.equal(read(undefined), 'absent');
  t.equal(read(''), 'absent');
  t.equal(readCredential([]).kind, 'absent');
  t.equal(readCredential(['Host', 'x']).kind, 'absent');
  t.equal(readCredential(['Authorization', '']).kind, 'absent');
});

t.test('the scheme counts in every mixture of cases', async t => {
  const letters = [...'bearer'];
  for (let mask = 0; mask < 2 ** letters.length; mask++) {
    const scheme = letters.map((letter, at) => (mask & (1 << at) ? letter.toUpperCase() : letter)).join('');
    t.equal(read(`${scheme} abc`), 'token abc', scheme);
    t.equal(read(scheme), 'empty', `${scheme} alone`);
  }
});

t.test('a scheme without a token is an empty token', async t => {
  t.equal(read('Bearer'), 'empty');
  t.equal(read('Bearer '), 'empty');
});

t.test('another scheme is foreign', async t => {
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
    t.equal(read(value), 'foreign', JSON.stringify(value));
  }
});

t.test('a scheme that only begins like Bearer is foreign', async t => {
  for (const value of ['Bearers abc', 'Bearerabc', 'BEARER-TOKEN abc', 'Bearer_ abc']) {
    t.equal(read(value), 'foreign', value);
  }
});

t.test('what is no space after the scheme is malformed', async t => {
  for (const value of ['Bearer=abc', 'Bearer:abc', 'Bearer,abc', 'Bearer\u00a0abc']) {
    t.equal(read(value), 'malformed', JSON.stringify(value));
  }
});

t.test('every character of RFC 6750 is taken, and no other', async t => {
  const allowed = '+-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~';
  const latin1 = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code));
  const all = [...latin1, '\u0100', '\u2028', '\u2029', '\u3000', '\ufeff', '\uff0e', '\ud800', '😀'];
  const taken = (place: (character: string) => string): string =>
    all.filter(character => read(`Bearer ${place(character)}`) === `token ${place(character)}`).join('');
  t.equal(
    taken(character => character),
    allowed,
    'alone',
  );
  t.equal(
    taken(character => `${character}b`),
    allowed,
    'at the beginning',
  );
  t.equal(
    taken(character => `a${character}b`),
    allowed,
    'in the middle',
  );
  t.equal(
    taken(character => `ab${character}`),
    allowed.replace('A', '=A'),
    'at the end',
  );
  t.equal(all.filter(character => read(`Bearer a${character}b`) === 'malformed').length, all.length - allowed.length);
});

t.test('equals signs are padding and stand at the end alone', async t => {
  t.equal(read('Bearer a='), 'token a=');
  t.equal(read('Bearer a==='), 'token a===');
  for (const token of ['=', '==', '=a', 'a=b', 'a==b=']) t.equal(read(`Bearer ${token}`), 'malformed', token);
});

t.test('exactly one space parts scheme and token, and none is anywhere else', async t => {
  const values = [
    ...['Bearer  abc', 'Bearer   ', 'Bearer\tabc', 'Bearer \tabc', 'Bearer\t', 'Bearer\nabc'],
    ...['Bearer abc ', 'Bearer abc\t', 'Bearer abc junk', 'Bearer abc Bearer abc'],
    ...['Bearer abc\n', 'Bearer abc\r\n', 'Bearer abc\r\nX-Other: 1', 'Bearer abc\0'],
  ];
  for (const value of values) t.equal(read(value), 'malformed', JSON.stringify(value));
});

t.test('credentials that a gateway merged with commas are malformed', async t => {
  for (const value of ['Bearer abc, Bearer abc', 'Bearer abc,Bearer def', 'Bearer abc,', 'Bearer ,abc']) {
    t.equal(read(value), 'malformed', value);
  }
});

t.test('two Authorization headers are malformed, whatever they hold', async t => {
  const good = 'Bearer abc';
  t.equal(readCredential(['Authorization', good, 'Authorization', good]).kind, 'malformed');
  t.equal(readCredential(['Authorization', good, 'Host', 'x', 'authorization', 'Bearer def']).kind, 'malformed');
  t.equal(readCredential(['AUTHORIZATION', '', 'Authorization', good]).kind, 'malformed');
  t.equal(readCredential(['Authorization', good, 'Authorization', '']).kind, 'malformed');
  t.equal(readCredential(['Authorization', '', 'Authorization', '']).kind, 'malformed');
  t.equal(readCredential(['Authorization', good, 'Authorization', 'Basic abc']).kind, 'malformed');
});

t.test('the header is found in any case and at any place, and only under its own name', async t => {
  for (const name of ['Authorization', 'authorization', 'AUTHORIZATION', 'aUTHORIZATIOn']) {
    t.equal(readCredential(['Host', 'x', name, 'Bearer abc', 'Accept', '*/*']).kind, 'token', name);
  }
  for (const name of ['Authorisation', 'X-Authorization', 'Authorization2', 'Proxy-Authorization']) {
    t.equal(readCredential([name, 'Bearer abc']).kind, 'absent', name);
  }
  t.equal(readCredential(['X-Other', 'Authorization', 'Bearer abc', 'x']).kind, 'absent', 'a value is no name');
});

t.test('whatever is presented is at hand for redaction, of all fields if there are several', async t => {
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

t.test('a token of 100 KB is read whole, and is malformed for one bad character at its end', async t => {
  const long = 'a'.repeat(100 * 1024);
  t.ok(read(`Bearer ${long}`) === `token ${long}`);
  t.equal(read(`Bearer ${long}!`), 'malformed');
  t.equal(read(`Bearer ${long}${'='.repeat(100 * 1024)}!`), 'malformed');
});
