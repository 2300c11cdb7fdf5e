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
import { tempDir } from '../../fixtures/temp-dir.ts';

const noStream = (): never => {
  throw new Error('a file is not written through a stream');
};

function opened(t: Test, path: string): number {
  const fd = openSync(path, 'a');
  t.teardown(() => closeSync(fd));
  return fd;
}

/** Creates a named pipe and opens both ends. */
function pipe(t: Test): number {
  const path = join(tempDir(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, 'r+');
  t.teardown(() => closeSync(fd));
  return fd;
}

t.test('a file is written by the thread pool, so a pending write delays the exit', async t => {
  const path = join(tempDir(t), 'log');
  const sink = standardStream(opened(t, path), noStream);
  t.equal(sink.delaysExit(), false, 'the file has not been opened yet');
  await writeWhole(sink, 'one\n');
  await writeWhole(sink, 'two\n');
  t.equal(readFileSync(path, 'utf8'), 'one\ntwo\n');
  t.equal(sink.delaysExit(), true);
});

t.test('a write to a full device fails with ENOSPC', async t => {
  await t.rejects(writeWhole(standardStream(opened(t, '/dev/full'), noStream), 'x'), {
    name: 'WriteError',
    code: 'ENOSPC',
    message: 'ENOSPC',
  });
});

t.test('a pipe is written through its stream, so a pending write does not delay the exit', async t => {
  const stream = new PassThrough();
  const sink = standardStream(pipe(t), () => stream);
  await writeWhole(sink, 'text');
  t.equal(String(stream.read()), 'text');
  t.equal(sink.delaysExit(), false);
});

t.test('a stream error rejects the write and is not uncaught', async t => {
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

t.test('a write to an invalid file descriptor fails with EBADF', async t => {
  await t.rejects(writeWhole(standardStream(1_000_000, noStream), 'x'), { code: 'EBADF' });
});

t.test('a write to a busy pipe or terminal accepts zero bytes and is not an error', async t => {
  const path = join(tempDir(t), 'pipe');
  execFileSync('mkfifo', [path]);
  // fileSink treats the pipe as it treats a terminal.
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  t.teardown(() => closeSync(fd));
  const sink = fileSink(fd);
  const written = (bytes: Buffer) =>
    new Promise(resolve => sink.write(bytes, (error, count) => resolve(error ?? count)));
  const first = (await written(Buffer.alloc(1024 * 1024))) as number;
  t.ok(first > 0 && first < 1024 * 1024);
  t.equal(await written(Buffer.alloc(4096)), 0);
});

t.test('writeWhole continues partial writes and retries while the reader is busy', async t => {
  let text = '';
  const counts = [2, 0, 9];
  const sink: Sink = {
    write(bytes, done) {
      const count = counts.shift() as number;
      text += bytes.subarray(0, count);
      done(null, Math.min(count, bytes.length));
    },
    delaysExit: () => false,
  };
  await writeWhole(sink, 'abcdef');
  t.equal(text, 'abcdef');
  t.strictSame(counts, []);
});

t.test('a write error without a code has the code "unknown error"', async t => {
  const sink: Sink = { write: (_bytes, done) => done(new Error('x')), delaysExit: () => false };
  await t.rejects(writeWhole(sink, 'x'), { code: 'unknown error' });
});

t.test('writes are retried after disk errors, but not without a reader', async t => {
  for (const code of ['ENOSPC', 'EDQUOT', 'EIO']) t.ok(isRetried(Object.assign(new Error(), { code })), code);
  for (const code of ['EPIPE', 'EBADF', undefined]) t.notOk(isRetried(Object.assign(new Error(), { code })), `${code}`);
});
