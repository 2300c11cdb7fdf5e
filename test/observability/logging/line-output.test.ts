import t from 'tap';
import { LineOutput } from '../../../src/observability/logging/line-output.ts';
import type { WriteDone } from '../../../src/observability/logging/standard-stream.ts';
import { until } from '../../fixtures/until.ts';

/** A sink whose writes stay in flight until the test completes them. */
function heldSink() {
  const writes: { text: string; done: WriteDone }[] = [];
  return {
    sink: {
      write: (bytes: Buffer, done: WriteDone) => {
        writes.push({ text: bytes.toString(), done });
      },
      delaysExit: () => true,
    },
    writes,
    next: async () => {
      await until(() => writes.length > 0);
      return writes.shift() as (typeof writes)[number];
    },
  };
}

/** A sink that accepts everything, or fails with the code that `write` returns. */
function scriptedSink(write: (text: string) => string | undefined) {
  return {
    write: (bytes: Buffer, done: WriteDone) => {
      const code = write(bytes.toString());
      setImmediate(() => done(code === undefined ? null : Object.assign(new Error(code), { code }), bytes.length));
    },
    delaysExit: () => false,
  };
}

t.test('lines of one turn are written together, and later lines after that write', async t => {
  const { sink, next, writes } = heldSink();
  const output = new LineOutput({ sink });
  output.write('a\n');
  output.write('');
  output.write('b\n');
  t.equal(writes.length, 0, 'the caller does not write synchronously');
  const first = await next();
  t.equal(first.text, 'a\nb\n');
  output.write('c\n');
  first.done(null, first.text.length);
  t.equal((await next()).text, 'c\n');
});

t.test('a partial write is continued with the rest', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink, retryMs: 1 });
  output.write('abcdef\n');
  (await next()).done(null, 2);
  const rest = await next();
  t.equal(rest.text, 'cdef\n');
  rest.done(null, 0);
  t.equal((await next()).text, 'cdef\n', 'a write that accepts nothing is repeated');
  t.equal(output.failedWrites, 0);
});

t.test('a write is at most 16 KiB, unless a single line is longer', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink });
  const line = `${'x'.repeat(9_999)}\n`;
  for (const text of [line, line, `${'y'.repeat(20_000)}\n`]) output.write(text);
  for (const size of [10_000, 10_000, 20_001]) {
    const { text, done } = await next();
    t.equal(text.length, size);
    done(null, size);
  }
});

t.test('the backlog of lines is bounded: new lines that do not fit are dropped and counted', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink, maxBytes: 6 });
  output.write('one\n');
  const first = await next();
  output.write('é\n');
  t.equal(output.droppedLines, 1, 'the limit is in bytes, not in characters');
  output.write('2\n');
  output.write('3\n');
  t.equal(output.droppedLines, 2);
  first.done(null, 4);
  t.equal((await next()).text, '2\n');
});

t.test('on a full disk lines are kept, and writing continues where it stopped', async t => {
  for (const code of ['ENOSPC', 'EIO', 'EDQUOT']) {
    const failed: string[] = [];
    const { sink, next } = heldSink();
    const output = new LineOutput({ sink, retryMs: 1, onFailure: name => failed.push(name) });
    const gaps: number[] = [];
    output.reportGaps(lost => gaps.push(lost));
    output.write('abc\n');
    (await next()).done(null, 2);
    for (let attempt = 0; attempt < 2; attempt += 1) (await next()).done(Object.assign(new Error(), { code }));
    output.write('def\n');
    const again = await next();
    t.equal(again.text, 'c\n', code);
    again.done(null, 2);
    const last = await next();
    t.equal(last.text, 'def\n');
    last.done(null, 4);
    t.strictSame([output.droppedLines, output.failedWrites, failed, gaps], [0, 2, [code], [0]], code);
  }
});

t.test('if the reader of the output is gone, waiting lines are dropped and counted', async t => {
  const failed: string[] = [];
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink, retryMs: 1, onFailure: name => failed.push(name) });
  output.write('a\nb\n');
  const first = await next();
  output.write('c\n');
  first.done(Object.assign(new Error(), { code: 'EPIPE' }));
  t.equal(output.droppedLines, 3);
  output.write('d\n');
  (await next()).done(new RangeError('unexpected'));
  t.strictSame([output.droppedLines, output.failedWrites, failed], [4, 2, ['EPIPE']]);
});

t.test('a write error without a code is reported by its class', async t => {
  const failed: string[] = [];
  const { sink, next } = heldSink();
  new LineOutput({ sink, onFailure: name => failed.push(name) }).write('a\n');
  (await next()).done(new RangeError('unexpected'));
  t.strictSame(failed, ['RangeError']);
});

t.test('once writing succeeds again, the number of lost lines is reported once', async t => {
  let code: string | undefined = 'EPIPE';
  let written = '';
  const sink = scriptedSink(text => {
    if (code === undefined) written += text;
    return code;
  });
  const output = new LineOutput({ sink, retryMs: 1 });
  output.reportGaps(lost => output.write(`lost ${lost}\n`));
  output.write('a\nb\n');
  await until(() => output.failedWrites === 1);
  await new Promise(setImmediate);
  t.equal(output.droppedLines, 2, 'no report is written while writing fails');
  code = undefined;
  output.write('c\n');
  await until(() => written.endsWith('lost 2\n'));
  output.write('d\n');
  await until(() => written.endsWith('d\n'));
  t.equal(written, 'c\nlost 2\nd\n');
});

t.test('finish waits for pending lines', async t => {
  t.strictSame(await new LineOutput(heldSink()).finish(60_000), { lost: 0, delaysExit: false }, 'without lines');
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink });
  output.write('a\n');
  const finished = output.finish(60_000);
  (await next()).done(null, 2);
  t.strictSame(await finished, { lost: 0, delaysExit: false });
});

t.test('finish stops at its timeout, and reports lost lines and whether a write delays the exit', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink });
  output.write('a\n');
  const { done } = await next();
  output.write('b\n');
  t.strictSame(await output.finish(1), { lost: 2, delaysExit: true });
  done(null, 2);
  output.write('c\n');
  t.equal((await next()).text, 'c\n', 'the output still works after a late completion');
});

t.test('finish does not wait for a full disk', async t => {
  let writes = 0;
  const sink = scriptedSink(() => {
    writes += 1;
    return 'ENOSPC';
  });
  const output = new LineOutput({ sink, retryMs: 60_000 });
  output.write('a\n');
  await until(() => output.failedWrites === 1);
  t.strictSame(await output.finish(60_000), { lost: 1, delaysExit: false });
  t.equal(writes, 2, 'finish tries one more write');
});

t.test('finish retries while the output is busy', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink, retryMs: 60_000 });
  output.write('a\n');
  const finished = output.finish(60_000);
  (await next()).done(null, 0);
  (await next()).done(null, 2);
  t.strictSame(await finished, { lost: 0, delaysExit: false });
  t.equal(output.failedWrites, 0);
});
