import t from 'tap';
import { converse, head, lines, statuses, statusesUntilClose } from '../fixtures/conversation.ts';
import { startWithFakeApi } from '../fixtures/gatecar.ts';

const gatecar = await startWithFakeApi();
t.teardown(() => gatecar.stop());
const token = gatecar.token();
const GOOD = `Authorization: Bearer ${token}`;

const MIB = 1024 * 1024;

/** Must never be answered 200: a request with a valid credential inside a declared body. */
const SMUGGLED = head('GET /auth HTTP/1.1', GOOD);
const CHUNK = `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`;

t.test('pipelined requests get their responses in order, however long their reviews take', async t => {
  const requests = Array.from({ length: 200 }, (_, i) => {
    if (i % 4 === 0) return { status: 200, credential: [GOOD] };
    if (i % 4 === 1) return { status: 401, credential: [] };
    if (i % 4 === 2) return { status: 401, credential: [`Authorization: Bearer unknown-${i}`] };
    return { status: 200, credential: [`Authorization: Bearer ${gatecar.token()}`] };
  });
  const conversation = await converse(gatecar.auth);
  conversation.send(requests.map(({ credential }) => head('GET /auth HTTP/1.1', ...credential)).join(''));
  t.same(
    statuses(await conversation.answers(requests.length)),
    requests.map(({ status }) => status),
  );
  conversation.destroy();
});

const DECLARED: Record<string, string[]> = {
  'a length': ['Content-Length: 5'],
  'the largest length': ['Content-Length: 9007199254740991'],
  chunks: ['Transfer-Encoding: chunked'],
  'compressed chunks': ['Transfer-Encoding: gzip, chunked'],
  'a length with an expectation of 100 Continue': ['Content-Length: 5', 'Expect: 100-continue'],
  'a length, on an upgrade': ['Content-Length: 5', 'Connection: Upgrade', 'Upgrade: websocket'],
  'a length, on a kept-alive connection': ['Content-Length: 5', 'Connection: keep-alive'],
  'a length after 2,000 other lines': [...lines(2000, 'X: 1'), 'Content-Length: 5'],
  'chunks after 2,000 other lines': [...lines(2000, 'X: 1'), 'Transfer-Encoding: chunked'],
};

for (const [name, fields] of Object.entries(DECLARED)) {
  t.test(
    `a body announced by ${name} that never comes: one immediate response, then the connection is closed`,
    async t => {
      for (const method of ['POST', 'GET', 'OPTIONS']) {
        for (const [target, status] of [
          ['/auth', 200],
          ['/elsewhere', 404],
        ] as const) {
          const conversation = await converse(gatecar.auth);
          conversation.send(head(`${method} ${target} HTTP/1.1`, GOOD, ...fields));
          const [answer] = await conversation.answers(1);
          t.equal(answer?.status, status);
          t.equal(answer?.headers.get('connection'), 'close');
          conversation.destroy();
        }
      }
    },
  );
}

const FRAMED: Record<string, string> = {
  'a length': head('POST /auth HTTP/1.1', `Content-Length: ${SMUGGLED.length}`) + SMUGGLED,
  'a length, to a target that is not /auth':
    head('POST /elsewhere HTTP/1.1', `Content-Length: ${SMUGGLED.length}`) + SMUGGLED,
  'a length, on GET': head('GET /auth HTTP/1.1', `Content-Length: ${SMUGGLED.length}`) + SMUGGLED,
  'a length, in HTTP/1.0': head('POST /auth HTTP/1.0', `Content-Length: ${SMUGGLED.length}`) + SMUGGLED,
  'a length, on an upgrade':
    head('GET /auth HTTP/1.1', 'Connection: Upgrade', 'Upgrade: x', `Content-Length: ${SMUGGLED.length}`) + SMUGGLED,
  'a length that is too short': head('POST /auth HTTP/1.1', 'Content-Length: 5') + SMUGGLED,
  'a length that covers only a short prefix': `${head('POST /auth HTTP/1.1', 'Content-Length: 5')}hello${SMUGGLED}`,
  'a length that ends where the hidden request begins, after 2,000 lines': `${head('POST /auth HTTP/1.1', ...lines(2000, 'X: 1'), 'Content-Length: 5')}hello${SMUGGLED}`,
  chunks: head('POST /auth HTTP/1.1', 'Transfer-Encoding: chunked') + CHUNK,
  'chunks that end immediately': `${head('POST /auth HTTP/1.1', 'Transfer-Encoding: chunked')}0\r\n\r\n${SMUGGLED}`,
  'chunks in HTTP/1.0': `${head('POST /auth HTTP/1.0', 'Transfer-Encoding: chunked')}0\r\n\r\n${SMUGGLED}`,
  'chunks in any case': `${head('POST /auth HTTP/1.1', 'tRANSFER-eNCODING: cHUNKED')}0\r\n\r\n${SMUGGLED}`,
  'chunks and a length (CL.TE)': `${head('POST /auth HTTP/1.1', 'Content-Length: 6', 'Transfer-Encoding: chunked')}0\r\n\r\n${SMUGGLED}`,
  'chunks and a length (TE.CL)': head('POST /auth HTTP/1.1', 'Transfer-Encoding: chunked', 'Content-Length: 4') + CHUNK,
  'two lengths': head('POST /auth HTTP/1.1', `Content-Length: ${SMUGGLED.length}`, 'Content-Length: 0') + SMUGGLED,
  'two lengths in reverse order':
    head('POST /auth HTTP/1.1', 'Content-Length: 0', `Content-Length: ${SMUGGLED.length}`) + SMUGGLED,
  'a list of lengths': head('POST /auth HTTP/1.1', 'Content-Length: 0, 5') + SMUGGLED,
  'a length next to a name that resembles it':
    head('POST /auth HTTP/1.1', `Content-Length: ${SMUGGLED.length}`, 'Content_Length: 0') + SMUGGLED,
  'a length that Connection names':
    head('POST /auth HTTP/1.1', 'Connection: keep-alive, Content-Length', `Content-Length: ${SMUGGLED.length}`) +
    SMUGGLED,
};
for (const coding of [
  'xchunked',
  'chunked, identity',
  'identity',
  'x chunked',
  '"chunked"',
  'chunked;x',
  '\x0bchunked',
  'chunked\0',
]) {
  const te = `Transfer-Encoding: ${coding}`;
  FRAMED[`the coding ${JSON.stringify(coding)}`] = `${head('POST /auth HTTP/1.1', te)}0\r\n\r\n${SMUGGLED}`;
  FRAMED[`a length and the coding ${JSON.stringify(coding)}`] =
    `${head('POST /auth HTTP/1.1', 'Content-Length: 5', te)}0\r\n\r\n${SMUGGLED}`;
}
for (const name of [
  'Transfer-Encoding ',
  ' Transfer-Encoding',
  'Transfer-Encoding\r\n ',
  'X: 1\nTransfer-Encoding',
  'Transfer-Encoding\0',
]) {
  FRAMED[`the name ${JSON.stringify(name)}`] =
    `${head('POST /auth HTTP/1.1', 'Content-Length: 5', `${name}: chunked`)}0\r\n\r\n${SMUGGLED}`;
}
for (const size of [
  '0x0',
  '+0',
  '-0',
  ' 0',
  '00000000000000000000',
  '0;x\n',
  '0\n',
  '10000000000000000',
  'fffffffffffffffff',
  '0;\r',
  '\n0',
]) {
  FRAMED[`the chunk size ${JSON.stringify(size)}`] =
    `${head('POST /auth HTTP/1.1', 'Transfer-Encoding: chunked')}${size}\r\n\r\n${SMUGGLED}`;
}

t.test('a request hidden in a declared body is never answered 200', async t => {
  await Promise.all(
    Object.entries(FRAMED).map(async ([name, bytes]) => {
      const answers = await statusesUntilClose(gatecar.auth, bytes);
      t.ok(answers.length > 0, `${name}: answered`);
      t.same(
        answers.filter(status => status !== 401 && status !== 400 && status !== 404),
        [],
        name,
      );
    }),
  );
});

t.test('a request hidden after a body is not answered if the first request was valid', async t => {
  for (const [name, bytes] of Object.entries({
    'a length': `${head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 5')}hello`,
    chunks: `${head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked')}5\r\nhello\r\n0\r\n\r\n`,
    'chunks with extensions': `${head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked')}5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n`,
    trailers: `${head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked')}0\r\nX: 1\r\nHost: other\r\n\r\n`,
  })) {
    t.same(await statusesUntilClose(gatecar.auth, bytes + SMUGGLED), [200], name);
  }
});

t.test('a credential in a trailer counts as none', async t => {
  const request = head('POST /auth HTTP/1.1', 'Transfer-Encoding: chunked', 'Trailer: Authorization');
  t.same(await statusesUntilClose(gatecar.auth, `${request}5\r\nhello\r\n0\r\n${GOOD}\r\n\r\n`), [401]);
  const both = head('POST /auth HTTP/1.1', 'Authorization: Bearer bad', 'Transfer-Encoding: chunked');
  t.same(await statusesUntilClose(gatecar.auth, `${both}0\r\n${GOOD}\r\n\r\n`), [401]);
});

t.test('an endless body is read up to a limit', async t => {
  const conversation = await converse(gatecar.auth);
  conversation.send(head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 9007199254740991'));
  const sendMore = () => {
    while (!conversation.socket.destroyed && conversation.socket.write('x'.repeat(65_536)));
  };
  conversation.socket.on('drain', sendMore);
  sendMore();
  t.same(statuses(await conversation.closed), [200]);
  t.ok(conversation.socket.bytesWritten > MIB, 'a client that sends before it reads gets its response');
  t.ok(conversation.socket.bytesWritten < 64 * MIB, 'what it sends afterwards is not read');
});

t.test('a second credential is found behind any number of header lines', async t => {
  for (const count of [10, 997, 998, 999, 1000, 1001, 1500, 2001, 5000]) {
    const fillers = lines(count, 'X: 1');
    for (const [first, second] of [
      [GOOD, 'Authorization: Bearer other'],
      ['Authorization: Bearer other', GOOD],
      [GOOD, 'Authorization:'],
    ] as const) {
      const conversation = await converse(gatecar.auth);
      conversation.send(head('GET /auth HTTP/1.1', first, ...fillers, second));
      t.match(await conversation.answers(1), [{ status: 401, body: /Invalid Authorization/ }], `${count} between`);
      conversation.destroy();
    }
  }
});

t.test('after all smuggling attempts no error was logged', async t => {
  t.same(
    gatecar.logs().filter(({ level }) => level === 'error' || level === 'fatal'),
    [],
  );
});
