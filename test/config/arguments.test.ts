import t from 'tap';
import { readCommandLine, redactArgument } from '../../src/config/arguments.ts';
import { faultsOf } from '../fixtures/settings.ts';

t.test('a command’s own flags and operands are separated from the settings, in any order', async t => {
  const args = [
    '--mode',
    'format-only',
    'file',
    '--output',
    'json',
    '--cache-refresh-ahead',
    '--cache-stale-if-error=1s',
    '-',
    '--file=a=b',
  ];
  t.strictSame(readCommandLine(args, ['output', 'file']), {
    own: new Map([
      ['output', 'json'],
      ['file', 'a=b'],
    ]),
    operands: ['file', '-'],
    settings: ['--mode', 'format-only', '--cache-refresh-ahead', '--cache-stale-if-error=1s'],
  });
});

t.test('a command’s own flag without a value is undefined', async t => {
  const { own, settings } = readCommandLine(['--output', '--mode=format-only'], ['output']);
  t.strictSame([...own], [['output', undefined]]);
  t.strictSame(settings, ['--mode=format-only']);
});

t.test('the arguments may end with a flag, and a switch takes only true and false', async t => {
  for (const args of [
    ['--mode'],
    ['--mode', '--cache-stale-if-error=1s'],
    ['--cache-refresh-ahead', 'false'],
    ['--cache-refresh-ahead', 'true'],
  ]) {
    t.strictSame(readCommandLine(args, []), { own: new Map(), operands: [], settings: args });
  }
  t.strictSame(readCommandLine(['--cache-refresh-ahead', 'yes'], []).operands, ['yes']);
});

t.test('an unknown flag is passed to the settings with the argument after it', async t => {
  t.strictSame(readCommandLine(['--nonsense', 'x', 'y'], []), {
    own: new Map(),
    operands: ['y'],
    settings: ['--nonsense', 'x'],
  });
});

t.test('a mistyped argument is quoted in the error, and a possible secret is not', async t => {
  for (const word of ['sreve', '--token-audience', '-kube-headers', '--nonsense']) t.equal(redactArgument(word), word);
  const token = `eyJhbGciOiJSUzI1NiJ9.${'a'.repeat(40)}.b`;
  for (const secret of [token, `--${token}`, 'abcdefghijklmnop']) {
    t.equal(redactArgument(secret), `(an argument of ${secret.length} characters, which may be a secret)`);
    t.strictSame(faultsOf([secret], {}), [`${redactArgument(secret)} is no known argument`]);
  }
});
