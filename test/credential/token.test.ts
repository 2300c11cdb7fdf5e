import { Writable } from 'node:stream';
import { format, inspect } from 'node:util';
import { serialize } from 'node:v8';
import { pino } from 'pino';
import t from 'tap';
import { redactJwts, redactToken, revealToken, Token } from '../../src/credential/token.ts';

const SECRET = 'eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl';
const token = new Token(SECRET);

t.test('only revealToken returns the characters of a token; its length is public', async t => {
  t.equal(revealToken(token), SECRET);
  t.equal(token.length, SECRET.length);
});

t.test('every conversion of a token to text gives [token]', async t => {
  const error = new Error(`cannot review ${token}`);
  const conversions: Record<string, string> = {
    template: `${token}`,
    String: String(token),
    concatenation: 'a '.concat(token as unknown as string),
    join: [token].join(),
    toString: token.toString(),
    toLocaleString: token.toLocaleString(),
    'JSON.stringify': JSON.stringify(token),
    'JSON.stringify, nested': JSON.stringify({ request: [{ token }] }),
    inspect: inspect(token),
    'inspect, nested': inspect({ request: { token } }, { depth: 9, showHidden: true }),
    'format %s': format('%s', token),
    'format %o': format('%o', token),
    'format %O': format('%O', { token }),
    'format %j': format('%j', { token }),
    'error.message': error.message,
    'error.stack': String(error.stack),
    'error, inspected': inspect(new Error('x', { cause: { token } })),
    URLSearchParams: decodeURIComponent(new URLSearchParams({ token: token as unknown as string }).toString()),
    Headers: new Headers({ token: token as unknown as string }).get('token') ?? '',
  };
  for (const [conversion, text] of Object.entries(conversions)) {
    t.match(text, '[token]', conversion);
    t.notMatch(text, 'c2VjcmV0', conversion);
  }
});

t.test('a token has no property that can be listed, copied or cloned', async t => {
  t.strictSame(Reflect.ownKeys(token), []);
  t.strictSame(Object.entries(token), []);
  t.strictSame({ ...token }, {});
  t.strictSame(Object.assign({}, token), {});
  t.strictSame(structuredClone(token), {});
  t.notMatch(serialize(token).toString('latin1'), 'c2VjcmV0');
  t.notMatch(inspect(token, { customInspect: false, showHidden: true, getters: true, depth: 9 }), 'c2VjcmV0');
  for (const key in token) t.fail(`for…in finds ${key}`);
});

t.test('pino never writes a token, at any level or position', async t => {
  let written = '';
  const log = pino(
    { level: 'trace' },
    new Writable({
      write(chunk, _encoding, done) {
        written += String(chunk);
        done();
      },
    }),
  );
  for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const) {
    log[level](token, 'as the object');
    log[level]({ token, request: { headers: [token] } }, 'in the object');
    log[level]('as an argument: %s %o %j %O', token as unknown as string, token, { token }, token);
    log[level](`in the text: ${token}`);
    log[level]({ err: Object.assign(new Error(`of ${token}`), { token }) }, 'in an error');
  }
  log.child({ token }).info('bound to a child');
  t.equal(written.split('\n').length, 6 * 5 + 2);
  t.match(written, '[token]');
  t.notMatch(written, 'c2VjcmV0');
});

t.test('redactToken replaces every copy of the token', async t => {
  t.equal(redactToken(`a ${SECRET} b ${SECRET}${SECRET}`, token), 'a [token] b [token][token]');
  t.equal(redactToken('nothing of it', token), 'nothing of it');
});

t.test('redactToken treats characters of regular expressions literally', async t => {
  t.equal(redactToken('x a.b+c/~== y aXbbc', new Token('a.b+c/~==')), 'x [token] y aXbbc');
});

t.test('redactJwts replaces every JWT and nothing else', async t => {
  t.equal(redactJwts(`/a?token=${SECRET}&b, ${SECRET}`), '/a?token=[token]&b, [token]');
  t.equal(redactJwts('eyJhbGciOiJub25lIn0.e30. and eyJhbGciOiJub25lIn0.e30'), '[token] and [token]');
  for (const text of ['', 'gateway.example.com/a.b.c', 'eyJhbGciOiJub2', 'eyJ.x.y', 'surveyJobsOfTheYear2026'])
    t.equal(redactJwts(text), text);
});

t.test('redactJwts replaces a JWT within other text, and a JWE with an empty part', async t => {
  t.equal(redactJwts(`/x/Bearer%20${SECRET}/y`), '/x/Bearer%20[token]/y');
  t.equal(redactJwts(`a.b_${SECRET}`), 'a.b_[token]');
  t.equal(redactJwts('eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn'), '[token]');
});

t.test('redactJwts replaces a JWT with percent-encoded dots', async t => {
  for (const dot of ['%2E', '%2e']) t.equal(redactJwts(`/x/${SECRET.replaceAll('.', dot)}/y`), '/x/[token]/y');
  for (const text of ['/a%2Eb', '/100%2Even']) t.equal(redactJwts(text), text, 'a text without a JWT is unchanged');
});

t.test('redactJwts takes linear time for 3 MiB of text that looks like the start of a JWT everywhere', async t => {
  const text = 'eyJ'.repeat(1024 * 1024);
  t.equal(redactJwts(text), text);
  t.equal(redactJwts(`${text}.x`), '[token]');
});

t.test('redactJwts replaces a single part of a JWT, since a gateway may cut long values', async t => {
  const [header = '', claims = ''] = revealToken(new Token(SECRET.replace('c2VjcmV0', 'eyJpc3MiOiJodHRwcyJ9'))).split(
    '.',
  );
  for (const part of [header, claims, claims.slice(0, 16), 'eyAiaXNzIjogImh0dHBz', 'ewogICJpc3MiOiAiaHR0cHM']) {
    t.equal(redactJwts(`/x/${part}/y`), '/x/[token]/y', part);
  }
});
