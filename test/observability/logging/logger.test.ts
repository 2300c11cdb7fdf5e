import { Writable } from 'node:stream';
import t from 'tap';
import { LineOutput } from '../../../src/observability/logging/line-output.ts';
import { describeError, logger } from '../../../src/observability/logging/logger.ts';
import { until } from '../../fixtures/until.ts';

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

t.test('a log line is a JSON object with the level’s name and an ISO 8601 time', async t => {
  const { stream, lines } = capture();
  logger('info', stream).info({ reason: 'token_rejected' }, 'denied');
  t.match(lines(), [{ level: 'info', name: 'gatecar', reason: 'token_rejected', msg: 'denied', time: /^\d{4}-.*Z$/ }]);
});

t.test('lines below the log level are not written', async t => {
  const { stream, lines } = capture();
  const log = logger('warn', stream);
  log.info('below the level');
  log.warn('written');
  t.match(lines(), [{ msg: 'written' }]);
});

t.test('tokens are redacted from logged errors', async t => {
  const error = Object.assign(new SyntaxError(`Unexpected "${JWT}" after Bearer abc123`), { code: 'E', body: JWT });
  const { stream, lines } = capture();
  logger('info', stream).error({ err: error }, 'a fault');
  const [line] = lines();
  t.notMatch(JSON.stringify(line), /eyJ|abc123/);
  t.match(line, { err: { type: 'SyntaxError', code: 'E', message: 'Unexpected "[token]" after Bearer [token]' } });
  t.match(line, { err: { stack: /logger\.test\.ts/ } }, 'the stack is there');
});

t.test('a thrown value that is not an Error is described', async t => {
  t.strictSame(describeError(`no ${JWT}`), { message: 'no [token]' });
  t.strictSame(describeError(undefined), { message: 'undefined' });
  const bare = new Error('x');
  Reflect.deleteProperty(bare, 'stack');
  t.strictSame(describeError(bare), { type: 'Error', message: 'x' });
});

t.test('the logger counts lines that could not be written, and reports them once output works again', async t => {
  let code: string | undefined = 'EPIPE';
  let text = '';
  const output = new LineOutput({
    retryMs: 1,
    sink: {
      write(bytes, done) {
        if (code !== undefined) return done(Object.assign(new Error(), { code }));
        text += bytes;
        done(null, bytes.length);
      },
      delaysExit: () => false,
    },
  });
  const log = logger('info', output);
  log.info('lost');
  await until(() => log.failedWrites() === 1);
  t.equal(log.droppedLines(), 1);
  code = undefined;
  log.info('written');
  await until(() => text.includes('too slow'));
  t.match(
    text
      .trim()
      .split('\n')
      .map(line => JSON.parse(line)),
    [{ msg: 'written' }, { level: 'warn', msg: 'log output failed or was too slow', lost: 1 }],
  );
});

t.test('a logger with its own destination reports no lost lines', async t => {
  const log = logger('info', capture().stream);
  log.info('written');
  t.strictSame([log.droppedLines(), log.failedWrites()], [0, 0]);
});

t.test('a logger without a destination can be created', async t => {
  t.equal(logger('silent').level, 'silent');
});

t.test('the message of an error that quotes an encoded JWT is redacted whole', async t => {
  const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhYmNkZWZnIn0.c2lnbmF0dXJl';
  t.equal(describeError(new Error(`cannot parse ${btoa(`x:${jwt}`)}`))['message'], '[token]');
  t.equal(describeError(new Error(`cannot parse ${jwt}, at 7`))['message'], 'cannot parse [token], at 7');
});
