import t from 'tap';
import { readCommand, UsageError } from '../../src/cli/command.ts';

t.test('the output format is text by default, and JSON with --output=json', async t => {
  t.equal(readCommand([]).output, 'text');
  t.equal(readCommand(['--output=text']).output, 'text');
  t.equal(readCommand(['--output', 'json']).output, 'json');
});

t.test('an unknown output format is a usage error', async t => {
  for (const args of [['--output=yaml'], ['--output'], ['--output', '--mode=format-only']]) {
    t.throws(() => readCommand(args), new UsageError('--output must be text or json'));
  }
});

t.test('a command reads its own flags', async t => {
  t.strictSame([...readCommand(['--file=a'], ['file']).own], [['file', 'a']]);
});
