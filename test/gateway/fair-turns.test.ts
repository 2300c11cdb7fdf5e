import t from 'tap';
import { FairTurns, SharedConnection, turnsByAllowance } from '../../src/gateway/fair-turns.ts';
import { fakeClock } from '../fixtures/clock.ts';

const LIMITS = { inAll: 32, perConnection: 8, ms: 5 };

function setUp() {
  const ends: (() => void)[] = [];
  const handled: string[] = [];
  const kept: string[] = [];
  const clock = fakeClock();
  const turns = new FairTurns(LIMITS, { atTurnEnd: callback => ends.push(callback), now: clock.now });
  return {
    handled,
    kept,
    ends,
    turns,
    clock,
    /** Adds a request. @param ms how long handling it takes. */
    add: (connection: SharedConnection, name: string, ms = 0) => {
      const handle = (): void => {
        handled.push(name);
        clock.advance(ms);
      };
      turns.add(connection, { handle, keep: () => kept.push(name) });
    },
    /** Ends the turn. @returns the requests handled at its end. */
    endTurn() {
      const before = handled.length;
      ends.splice(0)[0]?.();
      return handled.slice(before);
    },
  };
}

t.test('a connection with many requests does not delay other connections', async t => {
  const { add, handled, kept, endTurn } = setUp();
  const [flood, quiet] = [new SharedConnection(), new SharedConnection()];
  for (let index = 0; index < 20; index += 1) add(flood, `flood ${index}`);
  add(quiet, 'quiet 0');
  t.strictSame(handled, [...Array.from({ length: 8 }, (_, index) => `flood ${index}`), 'quiet 0']);
  t.equal(kept.length, 12, 'waiting requests retain their bytes');
  add(quiet, 'quiet 1');
  t.equal(handled.at(-1), 'quiet 1');
  t.strictSame(
    endTurn(),
    Array.from({ length: 8 }, (_, index) => `flood ${index + 8}`),
  );
  add(flood, 'flood 20');
  t.strictSame(endTurn(), ['flood 16', 'flood 17', 'flood 18', 'flood 19', 'flood 20']);
  t.strictSame(endTurn(), []);
});

t.test('a turn handles a limited total of requests, shared by all connections', async t => {
  const { add, handled, endTurn } = setUp();
  const connections = Array.from({ length: 100 }, () => new SharedConnection());
  for (let round = 0; round < 2; round += 1) {
    for (const [index, connection] of connections.entries()) add(connection, `${index}`);
  }
  t.equal(handled.length, 32);
  for (let turn = 0; turn < 3; turn += 1) t.equal(endTurn().length, 32);
  t.equal(new Set(handled.slice(0, 128)).size, 100, 'every connection is served once before any is served twice');
  for (let turn = 0; turn < 3; turn += 1) endTurn();
  t.equal(handled.length, 200);
});

t.test('a turn ends when its time is used, and handles at least one request', async t => {
  const { add, handled, endTurn } = setUp();
  const connections = Array.from({ length: 8 }, () => new SharedConnection());
  for (const [index, connection] of connections.entries()) add(connection, `${index}`, 3);
  t.strictSame(handled, ['0', '1', '2']);
  t.strictSame(endTurn(), ['3', '4']);
  t.strictSame(endTurn(), ['5', '6']);
  t.strictSame(endTurn(), ['7']);
  t.strictSame(endTurn(), []);
});

t.test('a shortened turn handles one request', async t => {
  const { add, turns, handled, endTurn } = setUp();
  const connection = new SharedConnection();
  for (let index = 0; index < 12; index += 1) add(connection, `${index}`);
  t.equal(handled.length, 8);
  turns.shorten(2);
  t.strictSame(endTurn(), ['8']);
  t.strictSame(endTurn(), ['9']);
  t.strictSame(endTurn(), ['10', '11']);
});

t.test('a request added while another is handled is handled once, after it', async t => {
  const { add, turns, handled, endTurn } = setUp();
  const connection = new SharedConnection();
  for (let index = 0; index < 8; index += 1) add(connection, `${index}`);
  const nested = { handle: () => handled.push('nested'), keep: () => {} };
  turns.add(connection, {
    handle() {
      handled.push('last');
      turns.add(connection, nested);
    },
    keep: () => {},
  });
  t.strictSame(endTurn(), ['last', 'nested']);
  t.strictSame(endTurn(), []);
});

t.test('a connection is busy while it has ready requests or pending reviews', async t => {
  const { add, endTurn } = setUp();
  const connection = new SharedConnection();
  connection.onChange();
  t.notOk(connection.isBusy);
  for (let index = 0; index < 9; index += 1) add(connection, `${index}`);
  t.ok(connection.isBusy);
  endTurn();
  t.notOk(connection.isBusy);
  connection.pending = 1;
  t.ok(connection.isBusy);
});

t.test('idle time between two requests does not use up a turn', async t => {
  const { add, handled, clock } = setUp();
  const connection = new SharedConnection();
  for (const name of ['a', 'b']) {
    add(connection, name);
    clock.advance(1000);
  }
  t.strictSame(handled, ['a', 'b']);
});

t.test('two FairTurns limit the same connection independently', async t => {
  const ends: (() => void)[] = [];
  const [first, second] = [0, 1].map(() => new FairTurns(LIMITS, { atTurnEnd: callback => ends.push(callback) })) as [
    FairTurns,
    FairTurns,
  ];
  const connection = new SharedConnection();
  let handled = 0;
  const request = {
    keep: () => {},
    handle() {
      handled += 1;
    },
  };
  first.add(connection, request);
  for (let index = 0; index < 20; index += 1) second.add(connection, request);
  t.equal(handled, 9);
  while (ends.length > 0) ends.shift()?.();
  t.equal(handled, 21);
});

t.test('requests that arrive one at a time are handled without a callback at turn end', async t => {
  const { add, ends, endTurn, handled } = setUp();
  const connection = new SharedConnection();
  add(connection, 'first');
  t.equal(ends.length, 0);
  add(connection, 'second');
  add(connection, 'third');
  t.equal(ends.length, 1);
  t.strictSame(endTurn(), []);
  t.strictSame(handled, ['first', 'second', 'third']);
});

t.test('by default a turn is one iteration of the event loop', async t => {
  const turns = new FairTurns({ ...LIMITS, ms: 10_000 });
  const connection = new SharedConnection();
  let handled = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const request = {
    keep: () => {},
    handle() {
      handled += 1;
      if (handled === 30) resolve();
    },
  };
  for (let index = 0; index < 30; index += 1) turns.add(connection, request);
  t.equal(handled, 8);
  await promise;
  t.equal(handled, 30);
});

t.test('connections with an allowed request have turns of their own, and shorten the others', async t => {
  const shortened: number[] = [];
  const shared = { shorten: (turns: number) => shortened.push(turns) };
  const ofAllowed = { shorten: () => t.fail('the turns of allowed connections are never shortened') };
  const turnsOf = turnsByAllowance<{ shorten(turns: number): void }>(shared, ofAllowed);
  const connection = new SharedConnection();
  t.equal(turnsOf(connection), shared);
  t.strictSame(shortened, []);
  connection.hasBeenAllowed = true;
  t.equal(turnsOf(connection), ofAllowed);
  t.strictSame(shortened, [3]);
});
