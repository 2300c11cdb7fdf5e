import { once } from 'node:events';
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t, { type Test } from 'tap';
import { StreamTable, useStreamTable } from '../../src/gateway/stream-table.ts';
import { beginCall, rawSession } from '../fixtures/raw-call.ts';
import { until } from '../fixtures/until.ts';

const stream = () => ({}) as ServerHttp2Stream;
const tableOf = (session: object): unknown => {
  const key = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'state');
  return (session as Record<symbol, { streams: unknown }>)[key as symbol]?.streams;
};

async function start(t: Test) {
  const sessions: ServerHttp2Session[] = [];
  const streams: ServerHttp2Stream[] = [];
  const server = createServer();
  server.on('session', session => {
    sessions.push(session);
    useStreamTable(session);
  });
  server.on('stream', stream => {
    streams.push(stream.on('error', () => {}));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, sessions, streams };
}

t.test('it holds what a Map holds, whatever is added and deleted', async t => {
  const table = new StreamTable();
  const map = new Map<number, ServerHttp2Stream>();
  const sorted = <T>(entries: Iterable<T>, by: (entry: T) => number) => [...entries].sort((a, b) => by(a) - by(b));
  // Each of 40 ids is added, set anew and deleted many times, in an order that is the same each time.
  for (let step = 0, seed = 1; step < 2_000; step += 1) {
    seed = (seed * 48_271) % 0x7fff_ffff;
    const id = seed % 40;
    if (seed % 3 === 0) {
      if (table.delete(id) !== map.delete(id)) t.fail('it knew of another');
    } else {
      const one = stream();
      table.set(id, one);
      map.set(id, one);
    }
    const same =
      table.size === map.size && table.has(id) === map.has(id) && table.get(id) === map.get(id) && !table.has(40);
    if (!same) t.fail(`after ${step} steps`);
  }
  t.ok(map.size > 10);
  const byId = ([id]: [number, ServerHttp2Stream]) => id;
  const inBoth = sorted(table, byId).every(([id, one]) => map.get(id) === one);
  t.ok(inBoth);
  t.strictSame([...table.entries()].map(byId).sort(), [...map.keys()].sort());
  t.strictSame([...table.keys()].sort(), [...map.keys()].sort());
  t.strictSame(new Set(table.values()), new Set(map.values()));
  t.equal(table.get(41), undefined);
  table.clear();
  t.strictSame([table.size, [...table], table.has(3)], [0, [], false]);
  table.set(7, stream());
  t.strictSame([...table.keys()], [7]);
});

t.test('whoever is told of each may delete them meanwhile, and is told of each once', async t => {
  const table = new StreamTable();
  for (let id = 1; id < 20; id += 2) table.set(id, stream());
  const told: number[] = [];
  table.forEach((one, id, of) => {
    t.equal(of, table);
    t.equal(of.get(id), one);
    told.push(id);
    of.delete(id);
  });
  t.strictSame(told, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
  t.equal(table.size, 0);
});

t.test('nothing is held of who was deleted', async t => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const table = new StreamTable();
  const refs: WeakRef<ServerHttp2Stream>[] = [];
  const fill = () => {
    for (let id = 0; id < 100; id += 1) {
      const one = stream();
      table.set(id, one);
      refs.push(new WeakRef(one));
    }
    for (let id = 0; id < 100; id += 1) table.delete(id);
  };
  fill();
  await until(() => {
    collect();
    return refs.every(ref => ref.deref() === undefined);
  });
  t.equal(table.size, 0);
});

t.test('Node keeps the streams of a connection in it, and finds them there', async t => {
  const { address, sessions, streams } = await start(t);
  const client = rawSession(t, address);
  const calls = [beginCall(client), beginCall(client), beginCall(client)];
  await until(() => streams.length === 3);
  const table = tableOf(sessions[0] as ServerHttp2Session);
  if (!(table instanceof StreamTable)) throw new Error('this Node keeps them elsewhere');
  t.strictSame(new Set(table.values()), new Set(streams));
  streams[1]?.respond({ ':status': 204 }, { endStream: true });
  calls[1]?.end();
  await until(() => table.size === 2);
  t.notOk(streams[0]?.destroyed);
  sessions[0]?.destroy();
  t.ok(
    streams.every(({ destroyed }) => destroyed),
    'all of those that are there end with it',
  );
  t.equal(table.size, 0);
});

t.test('what is not as it is expected stays as it is', async t => {
  const other = new Map([[1, stream()]]);
  for (const state of [undefined, {}, { streams: [] }, { streams: other }]) {
    const session = { [Symbol('kind')]: 1, [Symbol('state')]: state };
    const before = state?.streams;
    useStreamTable(session as unknown as ServerHttp2Session);
    t.equal(state?.streams, before);
  }
  t.doesNotThrow(() => useStreamTable({} as ServerHttp2Session));
});
