import t from 'tap';
import { readCommand, UsageError } from '../../src/cli/command.ts';

t.test('the output is text, unless JSON is asked for', async t => {
  t.equal(readCommand([]).output, 'text');
  t.equal(readCommand(['--output=text']).output, 'text');
  t.equal(readCommand(['--output', 'json']).output, 'json');
});

t.test('another output is a fault of usage', async t => {
  for (const args of [['--output=yaml'], ['--output'], ['--output', '--mode=format-only']]) {
    t.throws(() => readCommand(args), new UsageError('--output must be text or json'));
  }
});

t.test('flags of the command’s own are taken', async t => {
  t.strictSame([...readCommand(['--file=a'], ['file']).own], [['file', 'a']]);
});
