import t from 'tap';
import { LineOutput } from '../../../src/observability/logging/line-output.ts';
import type { WriteDone } from '../../../src/observability/logging/standard-stream.ts';
import { until } from '../../fixtures/until.ts';

/** An output whose writes stay in flight until the test ends them. */
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

/** An output that takes everything, or fails with the code that it is told. */
function scriptedSink(write: (text: string) => string | undefined) {
  return {
    write: (bytes: Buffer, done: WriteDone) => {
      const code = write(bytes.toString());
      setImmediate(() => done(code === undefined ? null : Object.assign(new Error(code), { code }), bytes.length));
    },
    delaysExit: () => false,
  };
}

t.test('lines of one turn are written together, and those after it when that write is done', async t => {
  const { sink, next, writes } = heldSink();
  const output = new LineOutput({ sink });
  output.write('a\n');
  output.write('');
  output.write('b\n');
  t.equal(writes.length, 0, 'nothing is written by the caller itself');
  const first = await next();
  t.equal(first.text, 'a\nb\n');
  output.write('c\n');
  first.done(null, first.text.length);
  t.equal((await next()).text, 'c\n');
});

t.test('a write that takes a part is continued with the rest', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink, retryMs: 1 });
  output.write('abcdef\n');
  (await next()).done(null, 2);
  const rest = await next();
  t.equal(rest.text, 'cdef\n');
  rest.done(null, 0);
  t.equal((await next()).text, 'cdef\n', 'one that takes nothing is repeated');
  t.equal(output.failedWrites, 0);
});

t.test('one write is at most 16 KiB, unless a line is longer', async t => {
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

t.test('the backlog is bounded in total; what does not fit is lost and counted, what comes before is kept', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink, maxBytes: 6 });
  output.write('one\n');
  const first = await next();
  output.write('é\n');
  t.equal(output.droppedLines, 1, 'a size in bytes, not in characters');
  output.write('2\n');
  output.write('3\n');
  t.equal(output.droppedLines, 2);
  first.done(null, 4);
  t.equal((await next()).text, '2\n');
});

t.test('a full disk loses nothing that fits: after it, writing goes on where it stopped', async t => {
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

t.test('if the reader is gone, all that waits is lost and counted', async t => {
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

t.test('an error without a code is named by its kind', async t => {
  const failed: string[] = [];
  const { sink, next } = heldSink();
  new LineOutput({ sink, onFailure: name => failed.push(name) }).write('a\n');
  (await next()).done(new RangeError('unexpected'));
  t.strictSame(failed, ['RangeError']);
});

t.test('once it works again, the lines lost are reported once', async t => {
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
  t.equal(output.droppedLines, 2, 'a report that could not be written would be one more');
  code = undefined;
  output.write('c\n');
  await until(() => written.endsWith('lost 2\n'));
  output.write('d\n');
  await until(() => written.endsWith('d\n'));
  t.equal(written, 'c\nlost 2\nd\n');
});

t.test('finish waits for what is on its way', async t => {
  t.strictSame(await new LineOutput(heldSink()).finish(60_000), { lost: 0, delaysExit: false }, 'there is nothing');
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink });
  output.write('a\n');
  const finished = output.finish(60_000);
  (await next()).done(null, 2);
  t.strictSame(await finished, { lost: 0, delaysExit: false });
});

t.test('finish gives up at its limit: the rest is lost, and the write in flight may delay the exit', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink });
  output.write('a\n');
  const { done } = await next();
  output.write('b\n');
  t.strictSame(await output.finish(1), { lost: 2, delaysExit: true });
  done(null, 2);
  output.write('c\n');
  t.equal((await next()).text, 'c\n', 'a write that ends later does no harm');
});

t.test('finish does not wait for a disk that is full', async t => {
  let writes = 0;
  const sink = scriptedSink(() => {
    writes += 1;
    return 'ENOSPC';
  });
  const output = new LineOutput({ sink, retryMs: 60_000 });
  output.write('a\n');
  await until(() => output.failedWrites === 1);
  t.strictSame(await output.finish(60_000), { lost: 1, delaysExit: false });
  t.equal(writes, 2, 'it tries once more');
});

t.test('finish tries again while an output is busy', async t => {
  const { sink, next } = heldSink();
  const output = new LineOutput({ sink, retryMs: 60_000 });
  output.write('a\n');
  const finished = output.finish(60_000);
  (await next()).done(null, 0);
  (await next()).done(null, 2);
  t.strictSame(await finished, { lost: 0, delaysExit: false });
  t.equal(output.failedWrites, 0);
});
