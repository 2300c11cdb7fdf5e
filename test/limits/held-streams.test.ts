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

const nextTurn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

function setUp(limitBytes = 100) {
  const clock = fakeClock();
  const budget = new Budget(limitBytes);
  return { clock, budget, streams: new HeldStreams(budget, clock.now, 250) };
}

t.test('a stream that has waited longest for its client gives way, and its bytes are free at once', async t => {
  const { clock, budget, streams } = setUp();
  const [first, second, third] = [new Stream(), new Stream(), new Stream()];
  for (const stream of [first, second]) {
    t.ok(streams.hold(stream, 50));
    streams.waits(stream);
  }
  t.notOk(streams.hold(third, 50), 'not before it has had some time');
  clock.advance(250);
  t.ok(streams.hold(third, 50));
  await nextTurn();
  t.strictSame([first.givenUp, second.givenUp, budget.usedBytes], [1, 0, 100]);
  streams.release(first);
  t.equal(budget.usedBytes, 100, 'they are not released again at its end');
});

t.test('streams that wait for gatecar give no way, and neither does a stream to itself', async t => {
  const { clock, streams } = setUp();
  const [busy, waiting] = [new Stream(), new Stream()];
  t.ok(streams.hold(busy, 60));
  streams.waits(busy);
  streams.waitsNoMore(busy);
  t.ok(streams.hold(waiting, 40));
  streams.waits(waiting);
  clock.advance(250);
  t.notOk(streams.hold(waiting, 10));
  t.ok(streams.hold(new Stream(), 40));
  await nextTurn();
  t.strictSame([busy.givenUp, waiting.givenUp], [0, 1]);
});

t.test('streams whose client takes too long are given up', async t => {
  const { clock, streams } = setUp();
  const [first, second] = [new Stream(), new Stream()];
  streams.waits(first);
  clock.advance(600);
  streams.waits(second);
  clock.advance(401);
  streams.expire(1000);
  await nextTurn();
  t.strictSame([first.givenUp, second.givenUp], [1, 0]);
  clock.advance(1000);
  streams.waits(second);
  streams.expire(1000);
  await nextTurn();
  t.equal(second.givenUp, 0, 'a second wait has its own time');
  clock.advance(1000);
  streams.expire(1000);
  await nextTurn();
  t.equal(second.givenUp, 1);
});

t.test('streams that time out together are given up by at most eight in each turn', async t => {
  const { clock, streams } = setUp();
  const waiting = Array.from({ length: 20 }, () => new Stream());
  for (const stream of waiting) streams.waits(stream);
  clock.advance(1000);
  const givenUp: number[] = [];
  let hasMore = true;
  while (hasMore) {
    hasMore = streams.expire(1000);
    await nextTurn();
    givenUp.push(waiting.reduce((sum, stream) => sum + stream.givenUp, 0));
  }
  t.strictSame(givenUp, [8, 16, 20]);
});

t.test('an answer for which there is no room may wait all the same, as one of a limited number', async t => {
  const { clock, budget, streams } = setUp();
  const [large, small] = [new Stream(), new Stream()];
  t.ok(streams.hold(large, 95));
  streams.waitsForReader(small, 5);
  t.strictSame([small.heldBytes, budget.usedBytes], [5, 100]);
  const unreserved = Array.from({ length: 258 }, () => new Stream());
  for (const stream of unreserved) streams.waitsForReader(stream, 5);
  await nextTurn();
  t.strictSame(
    unreserved.map(({ givenUp }) => givenUp),
    unreserved.map((_, index) => (index < 2 ? 1 : 0)),
    'the oldest give way',
  );
  t.strictSame([small.givenUp, budget.usedBytes], [0, 100], 'those that hold something do not give way for them');
  streams.release(unreserved[2] as Stream);
  streams.waitsForReader(new Stream(), 5);
  t.equal(unreserved[3]?.givenUp, 0, 'one that has ended leaves its place');
  clock.advance(1000);
  while (streams.expire(1000)) await nextTurn();
  await nextTurn();
  t.equal(small.givenUp + (unreserved.at(-1) as Stream).givenUp, 2, 'all of them have limited time');
});

t.test('a part of the budget is only for streams of connections with an allowed request', async t => {
  const streams = new HeldStreams(new Budget(100, { allowedOnlyShare: 0.2 }), fakeClock().now, 250);
  const [unknown, allowed] = [new Stream(), new Stream()];
  allowed.hasBeenAllowed = true;
  t.ok(streams.hold(unknown, 80));
  t.notOk(streams.hold(unknown, 1));
  t.ok(streams.hold(allowed, 20));
});

t.test('streams that are given up for the answers of others are given up one after the other', async t => {
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
  await nextTurn();
  await nextTurn();
  t.equal(deepest, 1);
});

t.test(
  'at most eight streams are given up in one event loop iteration, and more only for an allowed client',
  async t => {
    const { clock, streams } = setUp();
    const waiting = Array.from({ length: 10 }, () => new Stream());
    for (const stream of waiting) {
      t.ok(streams.hold(stream, 10));
      streams.waits(stream);
    }
    clock.advance(250);
    const [unproven, allowed] = [new Stream(), new Stream()];
    allowed.hasBeenAllowed = true;
    t.notOk(streams.hold(unproven, 90), 'it would take nine');
    await nextTurn();
    const givenUp = () => waiting.reduce((sum, stream) => sum + stream.givenUp, 0);
    t.equal(givenUp(), 0, 'none is given up in vain');
    t.ok(streams.hold(unproven, 80));
    streams.release(unproven);
    t.notOk(streams.hold(unproven, 90), 'not in the same iteration');
    await nextTurn();
    t.equal(givenUp(), 8);
    t.ok(streams.hold(unproven, 90), 'in the next iteration');
    await nextTurn();
    t.equal(givenUp(), 9);
    streams.release(unproven);
    for (const stream of waiting) {
      streams.release(stream);
      t.ok(streams.hold(stream, 10));
      streams.waits(stream);
    }
    clock.advance(250);
    t.ok(streams.hold(allowed, 90));
  },
);

t.test('no stream is given up if one that has not waited long enough would be needed too', async t => {
  const { clock, streams } = setUp();
  const [first, second] = [new Stream(), new Stream()];
  t.ok(streams.hold(first, 50));
  streams.waits(first);
  clock.advance(250);
  t.ok(streams.hold(second, 50));
  streams.waits(second);
  t.notOk(streams.hold(new Stream(), 60));
  await nextTurn();
  t.strictSame([first.givenUp, second.givenUp], [0, 0]);
});

t.test('a stream whose message completes before it is given up is not given up', async t => {
  const { clock, streams } = setUp();
  const [completed, answered, other] = [new Stream(), new Stream(), new Stream()];
  for (const stream of [completed, answered, other]) {
    streams.hold(stream, 30);
    streams.waits(stream);
  }
  clock.advance(250);
  t.ok(streams.hold(new Stream(), 100));
  streams.waitsNoMore(completed);
  streams.waitsForReader(answered, 0);
  await nextTurn();
  t.strictSame([completed.givenUp, answered.givenUp, other.givenUp], [0, 0, 1]);
});
