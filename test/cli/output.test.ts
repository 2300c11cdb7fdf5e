import t from 'tap';
import { asciiJson, colorizer, columns, quoteUntrusted, stripControl } from '../../src/cli/output.ts';

t.test('output is coloured on terminals, unless NO_COLOR is set', async t => {
  const bad = (isTerminal: boolean, env: Record<string, string> = {}) => colorizer({ isTerminal }, env)('bad', 'text');
  t.equal(bad(true), '\u001b[31mtext\u001b[0m');
  t.equal(bad(true, { NO_COLOR: '' }), bad(true), 'an empty NO_COLOR counts as unset');
  t.equal(bad(true, { NO_COLOR: '1' }), 'text');
  t.equal(bad(false), 'text');
  t.equal(colorizer({ isTerminal: true }, {})('good', 'text'), '\u001b[32mtext\u001b[0m');
});

t.test('quoteUntrusted returns one line of printable ASCII', async t => {
  t.equal(quoteUntrusted('a\u001b[2J\u009b\u202eb\né'), '"a\\u001b[2J\\u009b\\u202eb\\n\\u00e9"');
  t.equal(quoteUntrusted(undefined), 'undefined');
  t.strictSame(
    JSON.parse(asciiJson({ a: ['ü', '\u2028'] }, 2)),
    { a: ['ü', '\u2028'] },
    'the escaped JSON parses to the same value',
  );
  t.equal(asciiJson({ a: 1 }, 2), '{\n  "a": 1\n}');
});

t.test('quoteUntrusted truncates the value and redacts tokens', async t => {
  t.equal(quoteUntrusted('a'.repeat(400)), `"${'a'.repeat(299)}…`);
  t.equal(quoteUntrusted('x eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln y'), '"x [token] y"');
});

t.test('stripControl escapes control characters, redacts tokens and keeps the rest', async t => {
  t.equal(stripControl('a\u001b[2J\u009b\u202eb\n\u2028 …é'), 'a\\u001b[2J\\u009b\\u202eb\\u000a\\u2028 …é');
  t.equal(stripControl('\u{e0001}'), '\\udb40\\udc01');
  t.equal(stripControl('token file eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln cannot'), 'token file [token] cannot');
});

t.test('encoded tokens are redacted from lines and JSON values, and the JSON stays valid', async t => {
  const encoded = btoa('user:eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhYmNkZWZnIn0.c2lnbmF0dXJl');
  t.equal(asciiJson({ a: [encoded, 1], b: 'kept' }), '{"a":["[token]",1],"b":"kept"}');
  t.equal(stripControl(`cannot read ${encoded}`), '[token]');
});

t.test('columns aligns the second column and indents its continuation lines', async t => {
  t.equal(
    columns(
      [
        ['a', '1\n2'],
        ['long', '3'],
      ],
      ' ',
    ),
    ' a     1\n       2\n long  3\n',
  );
});
