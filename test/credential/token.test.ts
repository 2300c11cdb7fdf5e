import { Writable } from 'node:stream';
import { format, inspect } from 'node:util';
import { serialize } from 'node:v8';
import { pino } from 'pino';
import t from 'tap';
import { redactJwts, redactToken, revealToken, Token } from '../../src/credential/token.ts';

const SECRET = 'eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl';
const token = new Token(SECRET);

t.test('a token gives its characters to who asks by name, and its length to everybody', async t => {
  t.equal(revealToken(token), SECRET);
  t.equal(token.length, SECRET.length);
});

t.test('whatever makes text of a token shows [token]', async t => {
  const error = new Error(`cannot review ${token}`);
  const shown: Record<string, string> = {
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
  for (const [how, text] of Object.entries(shown)) {
    t.match(text, '[token]', how);
    t.notMatch(text, 'c2VjcmV0', how);
  }
});

t.test('a token has no property that could be listed, copied or cloned', async t => {
  t.strictSame(Reflect.ownKeys(token), []);
  t.strictSame(Object.entries(token), []);
  t.strictSame({ ...token }, {});
  t.strictSame(Object.assign({}, token), {});
  t.strictSame(structuredClone(token), {});
  t.notMatch(serialize(token).toString('latin1'), 'c2VjcmV0');
  t.notMatch(inspect(token, { customInspect: false, showHidden: true, getters: true, depth: 9 }), 'c2VjcmV0');
  for (const key in token) t.fail(`for…in finds ${key}`);
});

t.test('pino writes no token, at any level and in any place', async t => {
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

t.test('text that repeats the token, once or more, has it replaced', async t => {
  t.equal(redactToken(`a ${SECRET} b ${SECRET}${SECRET}`, token), 'a [token] b [token][token]');
  t.equal(redactToken('nothing of it', token), 'nothing of it');
});

t.test('characters that mean something to patterns are replaced as they are', async t => {
  t.equal(redactToken('x a.b+c/~== y aXbbc', new Token('a.b+c/~==')), 'x [token] y aXbbc');
});

t.test('whatever looks like a JWT is replaced, whoever’s it is, and nothing else', async t => {
  t.equal(redactJwts(`/a?token=${SECRET}&b, ${SECRET}`), '/a?token=[token]&b, [token]');
  t.equal(redactJwts('eyJhbGciOiJub25lIn0.e30. and eyJhbGciOiJub25lIn0.e30'), '[token] and [token]');
  for (const text of ['', 'gateway.example.com/a.b.c', 'eyJhbGciOiJub2', 'eyJ.x.y', 'surveyJobsOfTheYear2026'])
    t.equal(redactJwts(text), text);
});

t.test('a JWT is found in the middle of other words, and a JWE with an empty part too', async t => {
  t.equal(redactJwts(`/x/Bearer%20${SECRET}/y`), '/x/Bearer%20[token]/y');
  t.equal(redactJwts(`a.b_${SECRET}`), 'a.b_[token]');
  t.equal(redactJwts('eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn'), '[token]');
});

t.test('a JWT whose dots are percent-encoded, as a URI may have them, is one still', async t => {
  for (const dot of ['%2E', '%2e']) t.equal(redactJwts(`/x/${SECRET.replaceAll('.', dot)}/y`), '/x/[token]/y');
  for (const text of ['/a%2Eb', '/100%2Even']) t.equal(redactJwts(text), text, 'what is none stays as it was');
});

t.test('a long text takes no longer than it is long, though a JWT seems to begin everywhere in it', async t => {
  const text = 'eyJ'.repeat(1024 * 1024);
  t.equal(redactJwts(text), text);
  t.equal(redactJwts(`${text}.x`), '[token]');
});

t.test('one part of a JWT is replaced too: a gateway cuts long values, and the claims are in one part', async t => {
  const [header = '', claims = ''] = revealToken(new Token(SECRET.replace('c2VjcmV0', 'eyJpc3MiOiJodHRwcyJ9'))).split(
    '.',
  );
  for (const part of [header, claims, claims.slice(0, 16), 'eyAiaXNzIjogImh0dHBz', 'ewogICJpc3MiOiAiaHR0cHM']) {
    t.equal(redactJwts(`/x/${part}/y`), '/x/[token]/y', part);
  }
});
