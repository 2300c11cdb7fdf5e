import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { PacedConnection } from '../../src/gateway/paced-connection.ts';
import { WriteBatch } from '../../src/gateway/write-batch.ts';

class Echo extends PacedConnection {
  readonly received: string[] = [];
  inputEnded = false;

  protected override receive(chunk: Buffer): void {
    this.received.push(chunk.toString());
  }

  protected override endInput(): void {
    this.inputEnded = true;
    this.end();
  }
}

/** Pairs a client with the connection on the server's side. */
async function open(t: Test, writes?: WriteBatch): Promise<{ client: Socket; connection: Echo }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
  const [socket] = await accepted;
  const connection = new Echo(socket, undefined, writes);
  connection.on('error', () => {});
  t.teardown(() => {
    client.destroy();
    connection.destroy();
    socket.destroy();
  });
  return { client, connection };
}

t.test('a write completes only after the socket has drained', async t => {
  const { client, connection } = await open(t);
  client.pause();
  const done: string[] = [];
  connection.write(Buffer.alloc(8 * 1024 * 1024), () => done.push('large'));
  await new Promise(resolve => setImmediate(resolve));
  t.strictSame(done, []);
  t.ok(connection.writableLength > 0);
  client.resume();
  await once(connection, 'drain');
  t.strictSame(done, ['large']);
});

t.test('the subclass receives data and end of input, and ending the stream ends the socket', async t => {
  const { client, connection } = await open(t);
  connection.resume();
  client.resume().end('hello');
  await once(client, 'end');
  t.strictSame([connection.received, connection.inputEnded], [['hello'], true]);
});

t.test('a socket error destroys the connection with the same error', async t => {
  const { connection } = await open(t);
  const failed = once(connection, 'error');
  connection.socket.destroy(new Error('reset'));
  const [{ message }] = await failed;
  t.equal(message, 'reset');
  t.ok(connection.destroyed);
});

t.test('destroySoon sends pending writes before it closes the connection', async t => {
  const { client, connection } = await open(t);
  t.equal(connection.remoteAddress, '127.0.0.1');
  const received = once(client, 'data');
  connection.write('last words');
  connection.destroySoon();
  t.equal(String(await received), 'last words');
  client.end();
  await once(client, 'close');
  t.ok(connection.destroyed);
});

t.test('with a batch, writes are sent at the end of the iteration, and by destroySoon at once', async t => {
  const ends: (() => void)[] = [];
  const { client, connection } = await open(t, new WriteBatch(callback => ends.push(callback)));
  const received: string[] = [];
  client.on('data', chunk => received.push(String(chunk)));
  const written = new Promise<void>(resolve => {
    connection.write('first', () => resolve());
  });
  t.equal(connection.socket.bytesWritten, 0);
  ends.shift()?.();
  await written;
  connection.write('second');
  connection.destroySoon();
  await once(client, 'end');
  t.equal(received.join(''), 'firstsecond');
});

t.test('with a batch, a write to a destroyed socket is dropped', async t => {
  const ends: (() => void)[] = [];
  const { connection } = await open(t, new WriteBatch(callback => ends.push(callback)));
  connection.write('late');
  connection.socket.destroy();
  for (const end of ends) end();
  t.equal(connection.socket.bytesWritten, 0);
});
