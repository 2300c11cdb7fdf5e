import t from 'tap';
import { asciiJson, colorizer, columns, fitText, marker, quoteUntrusted, stripControl } from '../../src/cli/output.ts';

t.test('colours are for terminals, unless NO_COLOR is set', async t => {
  const bad = (isTerminal: boolean, env: Record<string, string> = {}) => colorizer({ isTerminal }, env)('bad', 'no');
  t.equal(bad(true), '\u001b[31mno\u001b[0m');
  t.equal(bad(true, { NO_COLOR: '' }), bad(true), 'empty is not set');
  t.equal(bad(true, { NO_COLOR: '1' }), 'no');
  t.equal(bad(false), 'no');
  t.equal(colorizer({ isTerminal: true }, {})('good', 'yes'), '\u001b[32myes\u001b[0m');
});

t.test('symbols are for terminals, and coloured as colours are allowed', async t => {
  t.equal(marker({ isTerminal: true }, {})('good'), '\u001b[32m✓\u001b[0m ');
  t.equal(marker({ isTerminal: true }, { NO_COLOR: '1' })('bad'), '✗ ');
  t.equal(marker({ isTerminal: false }, {})('bad'), '');
  const dumb = { TERM: 'dumb' };
  t.equal(marker({ isTerminal: true }, dumb)('bad') + colorizer({ isTerminal: true }, dumb)('bad', 'no'), 'no');
});

t.test('a quoted value is one line of printable ASCII, whatever is in it', async t => {
  t.equal(quoteUntrusted('a\u001b[2J\u009b\u202eb\né'), '"a\\u001b[2J\\u009b\\u202eb\\n\\u00e9"');
  t.equal(quoteUntrusted(undefined), 'undefined');
  t.strictSame(JSON.parse(asciiJson({ a: ['ü', '\u2028'] }, 2)), { a: ['ü', '\u2028'] }, 'and stays what it was');
  t.equal(asciiJson({ a: 1 }, 2), '{\n  "a": 1\n}');
});

t.test('a quoted value is cut, and a token in it is no token any more', async t => {
  t.equal(quoteUntrusted('a'.repeat(400)), `"${'a'.repeat(299)}…`);
  t.equal(quoteUntrusted('x eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln y'), '"x [token] y"');
});

t.test('a plain line holds no token and no order to a terminal, and is else as it was', async t => {
  t.equal(stripControl('a\u001b[2J\u009b\u202eb\n\u2028 …é'), 'a\\u001b[2J\\u009b\\u202eb\\u000a\\u2028 …é');
  t.equal(stripControl('\u{e0001}'), '\\udb40\\udc01');
  t.equal(stripControl('token file eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln cannot'), 'token file [token] cannot');
});

t.test('an encoded token is shown neither in a value nor in a line, and JSON stays JSON', async t => {
  const encoded = btoa('user:eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhYmNkZWZnIn0.c2lnbmF0dXJl');
  t.equal(asciiJson({ a: [encoded, 1], b: 'kept' }), '{"a":["[token]",1],"b":"kept"}');
  t.equal(stripControl(`cannot read ${encoded}`), '[token]');
});

t.test('the first column is as wide as its longest word, and further lines stand below the second', async t => {
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

t.test('codes for colours take no room in a column', async t => {
  const paint = colorizer({ isTerminal: true }, {});
  t.equal(
    columns([
      [paint('quiet', 'a'), '1\n2'],
      [paint('bad', 'long'), '3'],
    ]),
    '\u001b[2ma\u001b[0m     1\n      2\n\u001b[31mlong\u001b[0m  3\n',
  );
});

t.test('a text is broken at spaces to fit the terminal, if that is known and wide enough', async t => {
  const text = 'word '.repeat(20).trim();
  t.equal(fitText(text, {}, 10), text);
  t.equal(fitText(text, { width: 49 }, 10), text);
  t.strictSame(
    fitText(text, { width: 60 }, 10)
      .split('\n')
      .map(line => line.length),
    [49, 49],
  );
});
