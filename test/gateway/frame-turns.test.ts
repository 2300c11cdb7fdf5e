import t from 'tap';
import { type FrameSource, FrameTurns, type TurnShare } from '../../src/gateway/frame-turns.ts';

/** A connection with requests to pass on, one in each round. */
class Requests implements FrameSource {
  readonly #name: string;
  readonly #passed: string[];
  left: number;
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
    return this.left > 0;
  }

  hold(): boolean {
    this.held += 1;
    return !this.isClosed;
  }
}

function start(share: TurnShare) {
  const passed: string[] = [];
  const turns: (() => void)[] = [];
  const frameTurns = new FrameTurns(share, callback => turns.push(callback));
  return {
    passed,
    turns,
    /** Adds a connection that has so many requests. */
    add(name: string, requests: number, isClosed = false): Requests {
      const source = new Requests(name, requests, passed);
      source.isClosed = isClosed;
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
  add('c', 1, true);
  t.strictSame(passed, ['a'], 'only the first has passed anything on');
  t.equal(late.held, 1);
  t.equal(nextTurn(), 'ab');
  t.equal(nextTurn(), 'a');
  t.equal(nextTurn(), '');
});

t.test('turns are those of the event loop unless another clock is given', async t => {
  const passed: string[] = [];
  const source = new Requests('a', 3, passed);
  new FrameTurns({ frames: 1, streams: 1 }).add(source);
  t.strictSame(passed, ['a']);
  await new Promise(resolve => setImmediate(() => setImmediate(() => setImmediate(resolve))));
  t.strictSame(passed, ['a', 'a', 'a']);
});
