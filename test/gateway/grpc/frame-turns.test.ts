import t from 'tap';
import {
  type FrameLimits,
  type FrameSource,
  FrameTurns,
  type TurnShare,
} from '../../../src/gateway/grpc/frame-turns.ts';
import { fakeClock } from '../../fixtures/clock.ts';

/** A connection with requests to pass on, one in each round. */
class Requests implements FrameSource {
  readonly #name: string;
  readonly #passed: string[];
  left: number;
  takes = () => {};
  held = 0;
  isClosed = false;

  constructor(name: string, left: number, passed: string[]) {
    this.#name = name;
    this.left = left;
    this.#passed = passed;
  }

  pass(share: TurnShare): boolean {
    if (this.isClosed || share.streams === 0 || share.frames === 0) return this.left > 0;
    share.streams -= 1;
    share.frames -= 1;
    this.left -= 1;
    this.#passed.push(this.#name);
    this.takes();
    return this.left > 0;
  }

  hold(): boolean {
    this.held += 1;
    return !this.isClosed;
  }
}

const PASS = { frames: 16, streams: 1, bytes: 1024 };

function start(share: FrameLimits) {
  const passed: string[] = [];
  const turns: (() => void)[] = [];
  const clock = fakeClock();
  const frameTurns = new FrameTurns(
    { ...share, ms: 5, pass: PASS },
    { atTurnEnd: callback => turns.push(callback), afterPass: callback => callback(), now: clock.now },
  );
  return {
    passed,
    turns,
    frameTurns,
    clock,
    /** Adds a connection that has so many requests. Each takes so many milliseconds. */
    add(name: string, requests: number, { isClosed = false, ms = 0 } = {}): Requests {
      const source = new Requests(name, requests, passed);
      source.isClosed = isClosed;
      source.takes = () => clock.advance(ms);
      frameTurns.add(source);
      return source;
    },
    /** Ends the turn of the event loop. @returns what was passed on in the next. */
    nextTurn(): string {
      passed.length = 0;
      const callbacks = turns.splice(0);
      for (const callback of callbacks) callback();
      return passed.join('');
    },
  };
}

t.test('a connection alone passes on at once, and nothing is scheduled after its last frame', async t => {
  const { add, passed, turns, nextTurn } = start({ frames: 10, streams: 10 });
  add('a', 1);
  add('b', 1);
  t.strictSame(passed, ['a', 'b']);
  t.equal(turns.length, 1, 'the share is renewed once');
  t.equal(nextTurn(), '');
  t.equal(turns.length, 0);
});

t.test('a turn gives each connection one request a round, until its share is used', async t => {
  const { add, nextTurn } = start({ frames: 100, streams: 5 });
  add('a', 6);
  add('b', 2);
  add('c', 3);
  t.equal(nextTurn(), 'abcab');
  t.equal(nextTurn(), 'cacaa');
  t.equal(nextTurn(), '');
});

t.test('the share of frames ends a turn as that of requests does', async t => {
  const { add, nextTurn } = start({ frames: 2, streams: 100 });
  add('a', 4);
  add('b', 2);
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'a');
});

t.test('a connection does not pass others that wait, and one that cannot be held leaves the turns', async t => {
  const { add, passed, nextTurn } = start({ frames: 100, streams: 2 });
  add('a', 3);
  const late = add('b', 1);
  add('c', 1, { isClosed: true });
  t.strictSame(passed, ['a'], 'only the first has passed anything on');
  t.equal(late.held, 1);
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'a');
  t.equal(nextTurn(), '');
});

t.test('time ends a turn too, and in each turn one connection passes something on', async t => {
  const { add, passed, clock, nextTurn } = start({ frames: 100, streams: 100 });
  add('a', 4, { ms: 2 });
  const late = add('b', 3, { ms: 3 });
  t.strictSame([passed.join(''), late.held], ['a', 1], 'those that wait come first');
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), '');
  add('c', 1, { ms: 6 });
  t.equal(add('d', 2, { ms: 6 }).held, 1, 'the time of this turn is over');
  t.equal(nextTurn(), 'd');
  t.equal(nextTurn(), 'd');
  nextTurn();
  clock.advance(1000);
  add('e', 1);
  t.strictSame(passed, ['e'], 'time between two turns does not count');
});

t.test('in turns that are shortened one connection passes something on', async t => {
  const { add, turns, passed, frameTurns, nextTurn } = start({ frames: 100, streams: 100 });
  add('a', 3);
  add('b', 5);
  frameTurns.shorten(2);
  t.equal(nextTurn(), 'a');
  t.equal(nextTurn(), 'b');
  t.equal(nextTurn(), 'abbbb');
  t.equal(nextTurn(), '');
  frameTurns.shorten(1);
  add('c', 1);
  t.strictSame([passed.join(''), turns.length], ['c', 1], 'what comes in a turn of its own is passed on at once');
});

t.test('turns are those of the event loop unless another clock is given', async t => {
  const passed: string[] = [];
  const source = new Requests('a', 3, passed);
  new FrameTurns({ frames: 2, streams: 2, ms: 1000, pass: PASS }).add(source);
  t.strictSame(passed, ['a']);
  const nextTurn = () => new Promise(resolve => setImmediate(resolve));
  await nextTurn();
  t.strictSame(passed, ['a', 'a', 'a']);
});
