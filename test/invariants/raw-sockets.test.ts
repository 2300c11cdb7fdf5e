import t from 'tap';
import { ask } from '../fixtures/ask.ts';
import { converse, head, lines, statuses } from '../fixtures/conversation.ts';
import { startGate } from '../fixtures/gatecar.ts';

const gate = await startGate();
t.teardown(() => gate.stop());
const token = gate.token();
const GOOD = `Authorization: Bearer ${token}`;

/** Sends, and gives the answers there are when the other side has closed. */
async function untilClosed(bytes: string): Promise<number[]> {
  const conversation = await converse(gate.auth);
  conversation.send(bytes);
  return statuses(await conversation.closed);
}

/** Sends, and gives the first answer and whether the connection can be used again. */
async function first(bytes: string): Promise<{ status: number | undefined; keptAlive: boolean }> {
  const conversation = await converse(gate.auth);
  conversation.send(bytes);
  const [answer] = await conversation.answers(1);
  const keptAlive = answer?.headers.get('connection') === 'keep-alive';
  if (keptAlive) {
    conversation.send(head('GET /auth HTTP/1.1', GOOD));
    const [, second] = await conversation.answers(2);
    if (second?.status !== 200) throw new Error('the connection was said to be kept alive and was not');
  }
  conversation.destroy();
  return { status: answer?.status, keptAlive };
}

type Case = (...credential: string[]) => string;

const UNUSUAL: Record<string, Case> = {
  'HTTP/1.0 on a connection that is kept': (...more) => head('GET /auth HTTP/1.0', 'Connection: keep-alive', ...more),
  'HTTP/1.0 on one that is not': (...more) => head('GET /auth HTTP/1.0', ...more),
  'an absolute form': (...more) => head('GET http://admin.example/auth HTTP/1.1', ...more),
  'an absolute form, https': (...more) => head('GET HTTPS://admin.example:1/auth/x?y HTTP/1.1', ...more),
  'an empty line before it': (...more) => `\r\n${head('GET /auth HTTP/1.1', ...more)}`,
  'an upgrade to websocket': (...more) =>
    head('GET /auth HTTP/1.1', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', ...more),
  'an upgrade to h2c': (...more) =>
    head(
      'GET /auth HTTP/1.1',
      'Connection: Upgrade, HTTP2-Settings',
      'Upgrade: h2c',
      'HTTP2-Settings: AAMAAABk',
      ...more,
    ),
  'an expectation': (...more) => head('POST /auth HTTP/1.1', 'Expect: 100-continue', 'Content-Length: 5', ...more),
  'an expectation without a body': (...more) => head('GET /auth HTTP/1.1', 'Expect: 100-continue', ...more),
  'an unknown expectation': (...more) => head('GET /auth HTTP/1.1', 'Expect: 200-ok', ...more),
  'an empty expectation': (...more) => head('GET /auth HTTP/1.1', 'Expect:', ...more),
  'a length of 0': (...more) => head('POST /auth HTTP/1.1', 'Content-Length: 0', ...more),
  'spaces around the values': (...more) => head('GET /auth HTTP/1.1', ...more.map(line => `${line} \t `)),
  '200 headers': (...more) => head('GET /auth HTTP/1.1', ...lines(200, 'X-Header: value'), ...more),
  '2,000 header lines': (...more) => head('GET /auth HTTP/1.1', ...lines(2000, 'X-Header: value'), ...more),
  '60 KB in one header': (...more) => head('GET /auth HTTP/1.1', `X-Header: ${'v'.repeat(60_000)}`, ...more),
};

for (const [name, request] of Object.entries(UNUSUAL)) {
  t.test(`${name}: the credential decides`, async t => {
    t.equal((await first(request(GOOD))).status, 200);
    t.equal((await first(request())).status, 401);
    t.equal((await first(request(`${GOOD}x`))).status, 401);
    t.equal((await first(request(GOOD, GOOD))).status, 401);
  });
}

t.test('a target that is not /auth is no question, whatever the credential', async t => {
  for (const target of [
    ...['*', '/', '//auth', '/AUTH', '/authx', '/auth#', '/%61uth', '/./auth', '/x/../auth', '/auth%2f'],
    ...['http://gatecar', 'http://gatecar/authx', 'http://gatecar?/auth', 'ftp://gatecar/auth'],
  ]) {
    t.equal((await first(head(`OPTIONS ${target} HTTP/1.1`, GOOD))).status, 404, target);
  }
});

t.test('CONNECT opens no tunnel', async t => {
  for (const target of ['/auth', 'gatecar:443', '127.0.0.1:1']) {
    const conversation = await converse(gate.auth);
    conversation.send(head(`CONNECT ${target} HTTP/1.1`, GOOD) + head('GET /auth HTTP/1.1', GOOD));
    t.same(await conversation.closed, [], target);
    t.equal(conversation.received(), '');
  }
});

const NO_HTTP: Record<string, string> = {
  'an HTTP/2 preface': `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0${head('GET /auth HTTP/1.1', GOOD)}`,
  'a TLS hello': `\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03${head('GET /auth HTTP/1.1', GOOD)}`,
  'the PROXY protocol': `PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n${head('GET /auth HTTP/1.1', GOOD)}`,
  'no version that there is': head('GET /auth HTTP/1.7', GOOD),
  'an unknown method': head('ALLOW /auth HTTP/1.1', GOOD),
  'a method in lower case': head('get /auth HTTP/1.1', GOOD),
  'a space in the target': head('GET /auth x HTTP/1.1', GOOD),
  'a tab before the target': head('GET\t/auth HTTP/1.1', GOOD),
  'NUL in the target': head('GET /auth/\0 HTTP/1.1', GOOD),
  'a byte that is no ASCII in the target': head('GET /auth/\xff HTTP/1.1', GOOD),
  'NUL in a value': head('GET /auth HTTP/1.1', GOOD, 'X: \0'),
  'NUL after the token': head('GET /auth HTTP/1.1', `${GOOD}\0`),
  'NUL in a name': head('GET /auth HTTP/1.1', GOOD, 'X\0: 1'),
  'no name': head('GET /auth HTTP/1.1', GOOD, ': 1'),
  'no colon': head('GET /auth HTTP/1.1', GOOD, 'X'),
  'a space in the name': head('GET /auth HTTP/1.1', GOOD.replace(':', ' :')),
  'a name on a folded line': head('GET /auth HTTP/1.1', ` ${GOOD}`),
  'a token on a folded line': head('GET /auth HTTP/1.1', `Authorization: Bearer\r\n ${token}`),
  'a value on a folded line': head('GET /auth HTTP/1.1', `Authorization:\r\n\tBearer ${token}`),
  'any other header folded': head('GET /auth HTTP/1.1', GOOD, 'X: 1\r\n 2'),
  'bare LF': head('GET /auth HTTP/1.1', GOOD).replaceAll('\r', ''),
  'bare LF after the request line': head('GET /auth HTTP/1.1', GOOD).replace('\r', ''),
  'bare LF before the credential': head('GET /auth HTTP/1.1', `X: 1\n${GOOD}`),
  'bare LF at the end': head('GET /auth HTTP/1.1', GOOD).replace(/\r\n$/, '\n'),
  'bare CR before the credential': head('GET /auth HTTP/1.1', `X: 1\r${GOOD}`),
  'bare CR in the token': head('GET /auth HTTP/1.1', `${GOOD}\r`),
  'no Host': `GET /auth HTTP/1.1\r\n${GOOD}\r\n\r\n`,
  'a length and chunks': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 5', 'Transfer-Encoding: chunked'),
  'chunks and a length': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked', 'Content-Length: 5'),
  'two lengths that differ': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 0', 'Content-Length: 5'),
  'two lengths that do not': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 0', 'Content-Length: 0'),
  'a list of lengths': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 0, 0'),
  'an empty length': head('POST /auth HTTP/1.1', GOOD, 'Content-Length:'),
  'a negative length': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: -1'),
  'a length with a sign': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: +0'),
  'a length in hexadecimal': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 0x0'),
  'a length past every number': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 184467440737095516160'),
  'a space in the name of the length': head('POST /auth HTTP/1.1', GOOD, 'Content-Length : 0'),
  'chunks twice': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
  'chunks that are not last': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked, gzip'),
  'chunks, then identity': head(
    'POST /auth HTTP/1.1',
    GOOD,
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: identity',
  ),
  'an empty coding': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding:'),
  'a vertical tab before the coding': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: \x0bchunked'),
};

for (const [name, bytes] of Object.entries(NO_HTTP)) {
  t.test(`${name}: 400 and closed, good credential or not`, async t => {
    t.same(await untilClosed(bytes), [400]);
    t.same(await untilClosed(bytes + head('GET /auth HTTP/1.1', GOOD)), [400]);
  });
}

t.test('1 MB of headers, in whatever shape, is 431 and closed', async t => {
  const shapes = {
    'one value': [`X: ${'v'.repeat(1_000_000)}`],
    'one name': [`${'X'.repeat(1_000_000)}: v`],
    '1,000 headers': lines(1000, `X: ${'v'.repeat(1000)}`),
    '100,000 headers without a value': lines(100_000, 'Xyz:'),
    'the token': [`${GOOD}${'v'.repeat(1_000_000)}`],
  };
  for (const [name, more] of Object.entries(shapes)) {
    t.same(
      await untilClosed(`${head('GET /auth HTTP/1.1', GOOD).slice(0, -2)}${more.join('\r\n')}\r\n\r\n`),
      [431],
      name,
    );
  }
  const target = `/auth?${'q'.repeat(1_000_000)}`;
  t.same(await untilClosed(head(`GET ${target} HTTP/1.1`, GOOD)), [431], 'the target');
});

t.test('a head that ends too early is none, wherever it is cut', async t => {
  const whole = head('GET /auth HTTP/1.1', GOOD);
  const cuts = [...Array(60).keys()].map(i => Math.floor((i * whole.length) / 60)).concat(whole.length - 1);
  for (const cut of cuts) {
    const conversation = await converse(gate.auth);
    conversation.send(whole.slice(0, cut));
    conversation.end();
    const answers = statuses(await conversation.closed);
    t.same(
      answers.filter(status => status !== 400),
      [],
      `${cut} bytes`,
    );
  }
});

t.test('a head that comes byte by byte is as good as any other', async t => {
  const conversation = await converse(gate.auth);
  conversation.socket.setNoDelay(true);
  for (const byte of head('GET /auth HTTP/1.1', GOOD)) {
    await new Promise<void>(sent => {
      conversation.socket.write(byte, 'latin1', () => sent());
    });
  }
  t.same(statuses(await conversation.answers(1)), [200]);
  conversation.destroy();
});

t.test('after all of it a good request passes, and no fault of ours was logged', async t => {
  t.equal((await ask(gate.auth, { token })).status, 200);
  t.same(
    gate.logs().filter(({ level }) => level === 'error' || level === 'fatal'),
    [],
  );
});
