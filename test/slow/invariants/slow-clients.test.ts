import t from 'tap';
import { ask } from '../../fixtures/ask.ts';
import { converse, head } from '../../fixtures/conversation.ts';
import { startGate } from '../../fixtures/gatecar.ts';

const gate = await startGate();
t.teardown(() => gate.stop());
const token = gate.token();
const GOOD = `Authorization: Bearer ${token}`;

t.test('who reads no answers is not read either, and gets them all when it does', async t => {
  const requests = 20_000;
  // A result that is known waits for nobody.
  t.equal((await ask(gate.auth, { token })).status, 200);
  const conversation = await converse(gate.auth);
  const { socket } = conversation;
  socket.pause();
  conversation.send(head('GET /auth HTTP/1.1', GOOD).repeat(requests));
  for (let waiting = socket.writableLength, unmoved = 0; unmoved < 20; unmoved += 1) {
    t.equal((await ask(gate.auth, { token })).status, 200, 'others are answered');
    if (socket.writableLength === waiting) continue;
    waiting = socket.writableLength;
    unmoved = 0;
  }
  t.ok(socket.writableLength > 0, 'some of it still waits on our side');

  socket.resume();
  const [one] = await conversation.answers(2);
  const length = conversation.received().indexOf('HTTP/1.1', 1);
  await new Promise<void>(resolve => {
    socket.on('data', () => conversation.received().length === requests * length && resolve()).once('close', resolve);
  });
  t.equal(one?.status, 200);
  t.equal(conversation.received().split('HTTP/1.1 200 OK\r\n').length - 1, requests);
  conversation.destroy();
});
