import { EventEmitter } from 'node:events';
import { Writable } from 'node:stream';
import t from 'tap';
import { describeError, logger } from '../../src/operations/log.ts';

function capture(): { lines: () => Record<string, unknown>[]; stream: Writable } {
  let text = '';
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += chunk;
      done();
    },
  });
  return {
    stream,
    lines: () =>
      text
        .trim()
        .split('\n')
        .map(line => JSON.parse(line)),
  };
}

const JWT = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0xxxxx.c2lnbmF0dXJl';

t.test('a line is one JSON object with its level by name and its time in ISO 8601', async t => {
  const { stream, lines } = capture();
  logger('info', stream).info({ reason: 'token_rejected' }, 'denied');
  t.match(lines(), [{ level: 'info', name: 'gatecar', reason: 'token_rejected', msg: 'denied', time: /^\d{4}-.*Z$/ }]);
});

t.test('lines below the level are not written', async t => {
  const { stream, lines } = capture();
  const log = logger('warn', stream);
  log.info('no');
  log.warn('yes');
  t.match(lines(), [{ msg: 'yes' }]);
});

t.test('an error is logged without anything in it that looks like a token', async t => {
  const error = Object.assign(new SyntaxError(`Unexpected "${JWT}" after Bearer abc123`), { code: 'E', body: JWT });
  const { stream, lines } = capture();
  logger('info', stream).error({ err: error }, 'a fault');
  const [line] = lines();
  t.notMatch(JSON.stringify(line), /eyJ|abc123/);
  t.match(line, { err: { type: 'SyntaxError', code: 'E', message: 'Unexpected "[token]" after Bearer [token]' } });
  t.match(line, { err: { stack: /log\.test\.ts/ } }, 'the stack is there');
});

t.test('what is thrown and is no error is described all the same', async t => {
  t.strictSame(describeError(`no ${JWT}`), { message: 'no [token]' });
  t.strictSame(describeError(undefined), { message: 'undefined' });
  const bare = new Error('x');
  Reflect.deleteProperty(bare, 'stack');
  t.strictSame(describeError(bare), { type: 'Error', message: 'x' });
});

t.test('lines that its destination drops are counted', async t => {
  const { stream } = capture();
  const log = logger('info', stream);
  log.info('taken');
  t.equal(log.droppedLines(), 0);
  stream.emit('drop', 'a line');
  t.equal(log.droppedLines(), 1);
  const silent = logger('info', { write: () => {} });
  silent.info('gone');
  t.equal(silent.droppedLines(), 0, 'one that is no more than a function drops nothing');
});

t.test('it can be waited for that all is written', async t => {
  await logger('silent').written();
  await logger('info', { write: () => {} }).written();
  const slow = Object.assign(new EventEmitter(), { write: () => {} });
  let written = false;
  const waiting = logger('info', slow)
    .written()
    .then(() => {
      written = true;
    });
  await new Promise(setImmediate);
  t.equal(written, false);
  slow.emit('drain');
  await waiting;
  t.equal(written, true);
});

t.test('without a destination it writes to standard output', async t => {
  t.equal(logger('silent').level, 'silent');
});

t.test('an error that quotes an encoded JWT is left out whole', async t => {
  const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhYmNkZWZnIn0.c2lnbmF0dXJl';
  t.equal(describeError(new Error(`cannot parse ${btoa(`x:${jwt}`)}`))['message'], '[token]');
  t.equal(describeError(new Error(`cannot parse ${jwt}, at 7`))['message'], 'cannot parse [token], at 7');
});
