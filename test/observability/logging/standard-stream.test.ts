import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import t, { type Test } from 'tap';
import {
  fileSink,
  isRetried,
  type Sink,
  standardStream,
  writeWhole,
} from '../../../src/observability/logging/standard-stream.ts';
import { scratch } from '../../fixtures/temp-dir.ts';

const noStream = (): never => {
  throw new Error('a file is not written through a stream');
};

function opened(t: Test, path: string): number {
  const fd = openSync(path, 'a');
  t.teardown(() => closeSync(fd));
  return fd;
}

/** A named pipe, open for both ends. */
function pipe(t: Test): number {
  const path = join(scratch(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, 'r+');
  t.teardown(() => closeSync(fd));
  return fd;
}

t.test('a file is written by the thread pool, which an exit waits for', async t => {
  const path = join(scratch(t), 'log');
  const sink = standardStream(opened(t, path), noStream);
  t.equal(sink.delaysExit(), false, 'it has not been opened');
  await writeWhole(sink, 'one\n');
  await writeWhole(sink, 'two\n');
  t.equal(readFileSync(path, 'utf8'), 'one\ntwo\n');
  t.equal(sink.delaysExit(), true);
});

t.test('a full device fails with its code', async t => {
  await t.rejects(writeWhole(standardStream(opened(t, '/dev/full'), noStream), 'x'), {
    name: 'WriteError', code: 'ENOSPC', message: 'ENOSPC',
  });
});

t.test('a pipe or socket is written through its stream, which no exit waits for', async t => {
  const stream = new PassThrough();
  const sink = standardStream(pipe(t), () => stream);
  await writeWhole(sink, 'text');
  t.equal(String(stream.read()), 'text');
  t.equal(sink.delaysExit(), false);
});

t.test('an error of the stream goes to the write that failed, and is not uncaught', async t => {
  const stream = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error('x'), { code: 'EPIPE' })),
  });
  const closed = new Promise(resolve => stream.once('close', resolve));
  await t.rejects(
    writeWhole(
      standardStream(pipe(t), () => stream),
      'text',
    ),
    { code: 'EPIPE' },
  );
  await closed;
});

t.test('a descriptor that cannot be used fails the write', async t => {
  await t.rejects(writeWhole(standardStream(1_000_000, noStream), 'x'), { code: 'EBADF' });
});

t.test('a terminal or pipe that is busy takes nothing, which is no error', async t => {
  const path = join(scratch(t), 'pipe');
  execFileSync('mkfifo', [path]);
  // Not seen as a pipe, as a terminal is not.
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  t.teardown(() => closeSync(fd));
  const sink = fileSink(fd);
  const written = (bytes: Buffer) =>
    new Promise(resolve => sink.write(bytes, (error, taken) => resolve(error ?? taken)));
  const taken = (await written(Buffer.alloc(1024 * 1024))) as number;
  t.ok(taken > 0 && taken < 1024 * 1024);
  t.equal(await written(Buffer.alloc(4096)), 0);
});

t.test('a text is written whole: parts are continued, a busy reader is waited for', async t => {
  let text = '';
  const takes = [2, 0, 9];
  const sink: Sink = {
    write(bytes, done) {
      const take = takes.shift() as number;
      text += bytes.subarray(0, take);
      done(null, Math.min(take, bytes.length));
    },
    delaysExit: () => false,
  };
  await writeWhole(sink, 'abcdef');
  t.equal(text, 'abcdef');
  t.strictSame(takes, []);
});

t.test('an error without a code is unknown', async t => {
  const sink: Sink = { write: (_bytes, done) => done(new Error('x')), delaysExit: () => false };
  await t.rejects(writeWhole(sink, 'x'), { code: 'unknown error' });
});

t.test('bytes that a full disk refused are tried again; bytes without a reader are not', async t => {
  for (const code of ['ENOSPC', 'EDQUOT', 'EIO']) t.ok(isRetried(Object.assign(new Error(), { code })), code);
  for (const code of ['EPIPE', 'EBADF', undefined]) t.notOk(isRetried(Object.assign(new Error(), { code })), `${code}`);
});
