import t from 'tap';
import { COMMANDS, readInvocation } from '../../src/cli/command-names.ts';
import { help } from '../../src/config/help.ts';

t.test('the first argument is the command, and without one it is serve', async t => {
  t.strictSame(readInvocation([]), { command: 'serve', args: [] });
  t.strictSame(readInvocation(['--mode=open', 'x']), { command: 'serve', args: ['--mode=open', 'x'] });
  t.strictSame(readInvocation(['explain', 'file']), { command: 'explain', args: ['file'] });
});

t.test('help and version are accepted as commands and as flags, long and short', async t => {
  for (const args of [['--help'], ['-h'], ['help'], ['serve', '-h']]) {
    t.match(readInvocation(args), { command: 'serve', prints: 'help' }, args.join(' '));
  }
  for (const args of [
    ['check', '--help'],
    ['check', '-h'],
    ['help', 'check'],
  ]) {
    t.match(readInvocation(args), { command: 'check', prints: 'help' }, args.join(' '));
  }
  for (const topic of ['help', 'version']) {
    t.strictSame(readInvocation(['help', topic]), { command: 'serve', args: [], prints: 'help' }, topic);
  }
  for (const args of [['--version'], ['-v'], ['version'], ['check', '--version']]) {
    t.match(readInvocation(args), { prints: 'version' }, args.join(' '));
  }
});

t.test(
  'an unknown command is an error with the closest known one, and is not repeated if it may be a secret',
  async t => {
    const errorOf = (...args: string[]) =>
      (t.throws(() => readInvocation(args), { name: 'UsageError' }) as Error).message;
    t.equal(errorOf('chek'), '"chek" is no known command; did you mean check? See gatecar --help');
    t.equal(errorOf('help', 'explian'), '"explian" is no known command; did you mean explain? See gatecar --help');
    t.equal(errorOf('fooo'), '"fooo" is no known command; see gatecar --help');
    t.equal(errorOf(''), '"" is no known command; see gatecar --help');
    t.match(errorOf('verson'), 'did you mean version?');
    t.equal(
      errorOf('toString'),
      '"toString" is no known command; see gatecar --help',
      'names of Object.prototype are unknown',
    );
    t.match(
      errorOf('eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln'),
      /^\(an argument of 36 characters, which may be a secret\)/,
    );
  },
);

t.test('--help has the line of each command', async t => {
  const text = help(COMMANDS);
  for (const [name, summary] of Object.entries(COMMANDS)) t.match(text, `\n  ${name.padEnd(15)}${summary}\n`);
});
