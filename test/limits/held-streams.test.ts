import t from 'tap';
import { Budget } from '../../src/limits/budget.ts';
import { HeldStream, HeldStreams } from '../../src/limits/held-streams.ts';
import { fakeClock } from '../fixtures/clock.ts';

class Stream extends HeldStream {
  givenUp = 0;
  hasBeenAllowed = false;
  giveUp(): void {
    this.givenUp += 1;
  }
}

const nextTick = (): Promise<void> => new Promise(resolve => process.nextTick(resolve));

function setUp(limitBytes = 100) {
  const clock = fakeClock();
  const budget = new Budget(limitBytes);
  return { clock, budget, streams: new HeldStreams(budget, clock.now, 250) };
}

t.test(
  'the stream that has waited longest for its client is given up, and its bytes are freed immediately',
  async t => {
    const { clock, budget, streams } = setUp();
    const [first, second, third] = [new Stream(), new Stream(), new Stream()];
    for (const stream of [first, second]) {
      t.ok(streams.hold(stream, 50));
      streams.waits(stream);
    }
    t.notOk(streams.hold(third, 50), 'a stream is not given up within its first 250 ms');
    clock.advance(250);
    t.ok(streams.hold(third, 50));
    await nextTick();
    t.strictSame([first.givenUp, second.givenUp, budget.usedBytes], [1, 0, 100]);
    streams.release(first);
    t.equal(budget.usedBytes, 100, 'the bytes of a stream that was given up are not released twice');
  },
);

t.test('streams that wait for gatecar are not given up, and no stream is given up for itself', async t => {
  const { clock, streams } = setUp();
  const [busy, waiting] = [new Stream(), new Stream()];
  t.ok(streams.hold(busy, 60));
  streams.waits(busy);
  streams.waitsNoMore(busy);
  t.ok(streams.hold(waiting, 40));
  streams.waits(waiting);
  clock.advance(250);
  t.notOk(streams.hold(waiting, 10));
  t.notOk(streams.hold(new Stream(), 101));
  await nextTick();
  t.strictSame([busy.givenUp, waiting.givenUp], [0, 1]);
});

t.test('streams whose client exceeds the timeout are given up', async t => {
  const { clock, streams } = setUp();
  const [first, second] = [new Stream(), new Stream()];
  streams.waits(first);
  clock.advance(600);
  streams.waits(second);
  clock.advance(401);
  streams.expire(1000);
  await nextTick();
  t.strictSame([first.givenUp, second.givenUp], [1, 0]);
  clock.advance(1000);
  streams.waits(second);
  streams.expire(1000);
  await nextTick();
  t.equal(second.givenUp, 0, 'a second wait starts a new timeout');
  clock.advance(1000);
  streams.expire(1000);
  await nextTick();
  t.equal(second.givenUp, 1);
});

t.test('responses beyond the budget may wait for their reader, up to a limited number', async t => {
  const { clock, budget, streams } = setUp();
  const [large, small] = [new Stream(), new Stream()];
  t.ok(streams.hold(large, 95));
  streams.waitsForReader(small, 5);
  t.strictSame([small.heldBytes, budget.usedBytes], [5, 100]);
  const unreserved = Array.from({ length: 258 }, () => new Stream());
  for (const stream of unreserved) streams.waitsForReader(stream, 5);
  await nextTick();
  t.strictSame(
    unreserved.map(({ givenUp }) => givenUp),
    unreserved.map((_, index) => (index < 2 ? 1 : 0)),
    'the oldest are given up',
  );
  t.strictSame([small.givenUp, budget.usedBytes], [0, 100], 'streams with reserved bytes are not given up for them');
  streams.release(unreserved[2] as Stream);
  streams.waitsForReader(new Stream(), 5);
  t.equal(unreserved[3]?.givenUp, 0, 'a stream that has ended frees its slot');
  clock.advance(1000);
  streams.expire(1000);
  await nextTick();
  t.equal(small.givenUp + (unreserved.at(-1) as Stream).givenUp, 2, 'both exceed the timeout');
});

t.test('a share of the budget is reserved for streams of connections with an allowed request', async t => {
  const streams = new HeldStreams(new Budget(100, { allowedOnlyShare: 0.2 }), fakeClock().now, 250);
  const [unproven, allowed] = [new Stream(), new Stream()];
  allowed.hasBeenAllowed = true;
  t.ok(streams.hold(unproven, 80));
  t.notOk(streams.hold(unproven, 1));
  t.ok(streams.hold(allowed, 20));
});

t.test('streams that are given up for other responses are given up without recursion', async t => {
  const streams: HeldStreams = new HeldStreams(new Budget(10_000), fakeClock().now, 0);
  let depth = 0;
  let deepest = 0;
  class Answered extends Stream {
    override giveUp(): void {
      super.giveUp();
      deepest = Math.max(deepest, ++depth);
      if (this.givenUp === 1) streams.waitsForReader(this, 2);
      depth -= 1;
    }
  }
  const waiting = Array.from({ length: 10_000 }, () => new Answered());
  for (const stream of waiting) {
    streams.hold(stream, 1);
    streams.waits(stream);
  }
  t.ok(streams.hold(new Stream(), 1));
  await nextTick();
  await nextTick();
  t.equal(deepest, 1);
});

t.test('a stream whose message completes before it would be given up is kept', async t => {
  const { clock, streams } = setUp();
  const [completed, answered, incomplete] = [new Stream(), new Stream(), new Stream()];
  for (const stream of [completed, answered, incomplete]) {
    streams.hold(stream, 30);
    streams.waits(stream);
  }
  clock.advance(250);
  t.ok(streams.hold(new Stream(), 100));
  streams.waitsNoMore(completed);
  streams.waitsForReader(answered, 0);
  await nextTick();
  t.strictSame([completed.givenUp, answered.givenUp, incomplete.givenUp], [0, 0, 1]);
});
