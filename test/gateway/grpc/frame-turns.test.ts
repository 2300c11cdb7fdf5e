import t from 'tap';
import {
  type FrameLimits,
  type FrameSource,
  FrameTurns,
  type TurnShare,
} from '../../../src/gateway/grpc/frame-turns.ts';
import { fakeClock } from '../../fixtures/clock.ts';

/** A connection that passes on one request in each round. */
class Requests implements FrameSource {
  readonly #name: string;
  readonly #passed: string[];
  left: number;
  onPass = () => {};
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
    this.onPass();
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
    /** Adds a connection with requests. @param ms how long each of them takes. */
    add(name: string, requests: number, { isClosed = false, ms = 0 } = {}): Requests {
      const source = new Requests(name, requests, passed);
      source.isClosed = isClosed;
      source.onPass = () => clock.advance(ms);
      frameTurns.add(source);
      return source;
    },
    /** Ends the turn of the event loop. @returns the requests passed on in the next one. */
    nextTurn(): string {
      passed.length = 0;
      const callbacks = turns.splice(0);
      for (const callback of callbacks) callback();
      return passed.join('');
    },
  };
}

t.test('a single connection passes frames on immediately, and schedules nothing after its last frame', async t => {
  const { add, passed, turns, nextTurn } = start({ frames: 10, streams: 10 });
  add('a', 1);
  add('b', 1);
  t.strictSame(passed, ['a', 'b']);
  t.equal(turns.length, 1, 'the share is renewed by one callback');
  t.equal(nextTurn(), '');
  t.equal(turns.length, 0);
});

t.test('a turn passes on one request per connection and round, until its share is used', async t => {
  const { add, nextTurn } = start({ frames: 100, streams: 5 });
  add('a', 6);
  add('b', 2);
  add('c', 3);
  t.equal(nextTurn(), 'abcab');
  t.equal(nextTurn(), 'cacaa');
  t.equal(nextTurn(), '');
});

t.test('a turn also ends when its share of frames is used', async t => {
  const { add, nextTurn } = start({ frames: 2, streams: 100 });
  add('a', 4);
  add('b', 2);
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'a');
});

t.test('a new connection waits behind earlier ones, and a connection that cannot be held is dropped', async t => {
  const { add, passed, nextTurn } = start({ frames: 100, streams: 2 });
  add('a', 3);
  const waiting = add('b', 1);
  add('c', 1, { isClosed: true });
  t.strictSame(passed, ['a'], 'only the first connection has passed a request on');
  t.equal(waiting.held, 1);
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'a');
  t.equal(nextTurn(), '');
});

t.test('a turn ends when its time is used, and serves at least one connection', async t => {
  const { add, passed, clock, nextTurn } = start({ frames: 100, streams: 100 });
  add('a', 4, { ms: 2 });
  const waiting = add('b', 3, { ms: 3 });
  t.strictSame([passed.join(''), waiting.held], ['a', 1], 'waiting connections are served first');
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), '');
  add('c', 1, { ms: 6 });
  t.equal(add('d', 2, { ms: 6 }).held, 1, 'the time of this turn is used up');
  t.equal(nextTurn(), 'd');
  t.equal(nextTurn(), 'd');
  nextTurn();
  clock.advance(1000);
  add('e', 1);
  t.strictSame(passed, ['e'], 'time between two turns is not counted');
});

t.test('a shortened turn serves one connection', async t => {
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
  t.strictSame(
    [passed.join(''), turns.length],
    ['c', 1],
    'a request that arrives in a new turn is passed on immediately',
  );
});

t.test('frames are passed on in iterations of the event loop by default', async t => {
  const passed: string[] = [];
  const source = new Requests('a', 3, passed);
  new FrameTurns({ frames: 2, streams: 2, ms: 1000, pass: PASS }).add(source);
  t.strictSame(passed, ['a']);
  const nextTurn = () => new Promise(resolve => setImmediate(resolve));
  await nextTurn();
  t.strictSame(passed, ['a', 'a', 'a']);
});
