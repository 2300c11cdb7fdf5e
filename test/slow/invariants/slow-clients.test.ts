import t from 'tap';
import { converse, head } from '../../fixtures/conversation.ts';
import { startWithFakeApi } from '../../fixtures/gatecar.ts';
import { sendRequest } from '../../fixtures/send-request.ts';

const gatecar = await startWithFakeApi();
t.teardown(() => gatecar.stop());
const token = gatecar.token();
const GOOD = `Authorization: Bearer ${token}`;

t.test('a client that does not read responses is back-pressured, then receives all of them', async t => {
  const requests = 20_000;
  // A cached result does not wait for the API server.
  t.equal((await sendRequest(gatecar.auth, { token })).status, 200);
  const conversation = await converse(gatecar.auth);
  const { socket } = conversation;
  socket.pause();
  conversation.send(head('GET /auth HTTP/1.1', GOOD).repeat(requests));
  for (let waiting = socket.writableLength, unmoved = 0; unmoved < 20; unmoved += 1) {
    t.equal((await sendRequest(gatecar.auth, { token })).status, 200, 'other clients are answered');
    if (socket.writableLength === waiting) continue;
    waiting = socket.writableLength;
    unmoved = 0;
  }
  t.ok(socket.writableLength > 0, 'some bytes still wait at the client');

  socket.resume();
  const [response] = await conversation.answers(2);
  const length = conversation.received().indexOf('HTTP/1.1', 1);
  await new Promise<void>(resolve => {
    socket.on('data', () => conversation.received().length === requests * length && resolve()).once('close', resolve);
  });
  t.equal(response?.status, 200);
  t.equal(conversation.received().split('HTTP/1.1 200 OK\r\n').length - 1, requests);
  conversation.destroy();
});
