import t from 'tap';
import { converse, head, lines, statuses, statusesUntilClose } from '../fixtures/conversation.ts';
import { startWithFakeApi } from '../fixtures/gatecar.ts';
import { sendRequest } from '../fixtures/send-request.ts';

const gatecar = await startWithFakeApi();
t.teardown(() => gatecar.stop());
const token = gatecar.token();
const GOOD = `Authorization: Bearer ${token}`;

/**
 * Sends these bytes. Returns the status of the first response, and whether the connection can be
 * reused.
 */
async function firstResponse(bytes: string): Promise<{ status: number | undefined; keptAlive: boolean }> {
  const conversation = await converse(gatecar.auth);
  conversation.send(bytes);
  const [answer] = await conversation.answers(1);
  const keptAlive = answer?.headers.get('connection') === 'keep-alive';
  if (keptAlive) {
    conversation.send(head('GET /auth HTTP/1.1', GOOD));
    const [, second] = await conversation.answers(2);
    if (second?.status !== 200)
      throw new Error('the response announced keep-alive, but the connection could not be reused');
  }
  conversation.destroy();
  return { status: answer?.status, keptAlive };
}

type Case = (...credential: string[]) => string;

const UNUSUAL: Record<string, Case> = {
  'HTTP/1.0 on a kept-alive connection': (...extra) => head('GET /auth HTTP/1.0', 'Connection: keep-alive', ...extra),
  'HTTP/1.0 on another connection': (...extra) => head('GET /auth HTTP/1.0', ...extra),
  'an absolute form': (...extra) => head('GET http://admin.example/auth HTTP/1.1', ...extra),
  'an absolute form, https': (...extra) => head('GET HTTPS://admin.example:1/auth/x?y HTTP/1.1', ...extra),
  'an empty line before the request line': (...extra) => `\r\n${head('GET /auth HTTP/1.1', ...extra)}`,
  'an upgrade to websocket': (...extra) =>
    head('GET /auth HTTP/1.1', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', ...extra),
  'an upgrade to h2c': (...extra) =>
    head(
      'GET /auth HTTP/1.1',
      'Connection: Upgrade, HTTP2-Settings',
      'Upgrade: h2c',
      'HTTP2-Settings: AAMAAABk',
      ...extra,
    ),
  'an expectation': (...extra) => head('POST /auth HTTP/1.1', 'Expect: 100-continue', 'Content-Length: 5', ...extra),
  'an expectation without a body': (...extra) => head('GET /auth HTTP/1.1', 'Expect: 100-continue', ...extra),
  'an unknown expectation': (...extra) => head('GET /auth HTTP/1.1', 'Expect: 200-ok', ...extra),
  'an empty expectation': (...extra) => head('GET /auth HTTP/1.1', 'Expect:', ...extra),
  'a length of 0': (...extra) => head('POST /auth HTTP/1.1', 'Content-Length: 0', ...extra),
  'spaces around the values': (...extra) => head('GET /auth HTTP/1.1', ...extra.map(line => `${line} \t `)),
  '200 headers': (...extra) => head('GET /auth HTTP/1.1', ...lines(200, 'X-Header: value'), ...extra),
  '2,000 header lines': (...extra) => head('GET /auth HTTP/1.1', ...lines(2000, 'X-Header: value'), ...extra),
  '60 KB in one header': (...extra) => head('GET /auth HTTP/1.1', `X-Header: ${'v'.repeat(60_000)}`, ...extra),
};

for (const [name, request] of Object.entries(UNUSUAL)) {
  t.test(`${name}: the credential decides`, async t => {
    t.equal((await firstResponse(request(GOOD))).status, 200);
    t.equal((await firstResponse(request())).status, 401);
    t.equal((await firstResponse(request(`${GOOD}x`))).status, 401);
    t.equal((await firstResponse(request(GOOD, GOOD))).status, 401);
  });
}

t.test('a target other than /auth gets 404, whatever the credential', async t => {
  for (const target of [
    '*',
    '/',
    '//auth',
    '/AUTH',
    '/authx',
    '/auth#',
    '/%61uth',
    '/./auth',
    '/x/../auth',
    '/auth%2f',
    'http://gatecar',
    'http://gatecar/authx',
    'http://gatecar?/auth',
    'ftp://gatecar/auth',
  ]) {
    t.equal((await firstResponse(head(`OPTIONS ${target} HTTP/1.1`, GOOD))).status, 404, target);
  }
});

t.test('CONNECT opens no tunnel', async t => {
  for (const target of ['/auth', 'gatecar:443', '127.0.0.1:1']) {
    const conversation = await converse(gatecar.auth);
    conversation.send(head(`CONNECT ${target} HTTP/1.1`, GOOD) + head('GET /auth HTTP/1.1', GOOD));
    t.same(await conversation.closed, [], target);
    t.equal(conversation.received(), '');
  }
});

const NOT_HTTP: Record<string, string> = {
  'an HTTP/2 preface': `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0${head('GET /auth HTTP/1.1', GOOD)}`,
  'a TLS hello': `\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03${head('GET /auth HTTP/1.1', GOOD)}`,
  'the PROXY protocol': `PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n${head('GET /auth HTTP/1.1', GOOD)}`,
  'an unknown version': head('GET /auth HTTP/1.7', GOOD),
  'an unknown method': head('ALLOW /auth HTTP/1.1', GOOD),
  'a method in lower case': head('get /auth HTTP/1.1', GOOD),
  'a space in the target': head('GET /auth x HTTP/1.1', GOOD),
  'a tab before the target': head('GET\t/auth HTTP/1.1', GOOD),
  'NUL in the target': head('GET /auth/\0 HTTP/1.1', GOOD),
  'a non-ASCII byte in the target': head('GET /auth/\xff HTTP/1.1', GOOD),
  'NUL in a value': head('GET /auth HTTP/1.1', GOOD, 'X: \0'),
  'NUL after the token': head('GET /auth HTTP/1.1', `${GOOD}\0`),
  'NUL in a name': head('GET /auth HTTP/1.1', GOOD, 'X\0: 1'),
  'an empty name': head('GET /auth HTTP/1.1', GOOD, ': 1'),
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
  'two different Hosts': head('GET /auth HTTP/1.1', 'Host: other', GOOD),
  'two equal Hosts': head('GET /auth HTTP/1.1', 'hOST: x', 'Host: x', GOOD),
  'two Hosts in HTTP/1.0': head('GET /auth HTTP/1.0', 'Host: other', GOOD),
  'two Hosts and a body that never comes': head('POST /auth HTTP/1.1', 'Host: other', GOOD, 'Content-Length: 5'),
  'a length and chunks': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 5', 'Transfer-Encoding: chunked'),
  'chunks and a length': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked', 'Content-Length: 5'),
  'two different lengths': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 0', 'Content-Length: 5'),
  'two equal lengths': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 0', 'Content-Length: 0'),
  'a list of lengths': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 0, 0'),
  'an empty length': head('POST /auth HTTP/1.1', GOOD, 'Content-Length:'),
  'a negative length': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: -1'),
  'a length with a sign': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: +0'),
  'a length in hexadecimal': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 0x0'),
  'a length past every number': head('POST /auth HTTP/1.1', GOOD, 'Content-Length: 184467440737095516160'),
  'a space in the name of the length': head('POST /auth HTTP/1.1', GOOD, 'Content-Length : 0'),
  'chunked twice': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
  'chunked as a coding that is not the last': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: chunked, gzip'),
  'chunked, then identity': head(
    'POST /auth HTTP/1.1',
    GOOD,
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: identity',
  ),
  'an empty coding': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding:'),
  'a vertical tab before the coding': head('POST /auth HTTP/1.1', GOOD, 'Transfer-Encoding: \x0bchunked'),
};

for (const [name, bytes] of Object.entries(NOT_HTTP)) {
  t.test(`${name}: 400 and the connection is closed, with or without a valid credential`, async t => {
    t.same(await statusesUntilClose(gatecar.auth, bytes), [400]);
    t.same(await statusesUntilClose(gatecar.auth, bytes + head('GET /auth HTTP/1.1', GOOD)), [400]);
  });
}

t.test('1 MB of headers, in any form, gets 431 and the connection is closed', async t => {
  const shapes = {
    'one value': [`X: ${'v'.repeat(1_000_000)}`],
    'one name': [`${'X'.repeat(1_000_000)}: v`],
    '1,000 headers': lines(1000, `X: ${'v'.repeat(1000)}`),
    '100,000 headers without a value': lines(100_000, 'Xyz:'),
    'the token': [`${GOOD}${'v'.repeat(1_000_000)}`],
  };
  for (const [name, extra] of Object.entries(shapes)) {
    t.same(
      await statusesUntilClose(
        gatecar.auth,
        `${head('GET /auth HTTP/1.1', GOOD).slice(0, -2)}${extra.join('\r\n')}\r\n\r\n`,
      ),
      [431],
      name,
    );
  }
  const target = `/auth?${'q'.repeat(1_000_000)}`;
  t.same(await statusesUntilClose(gatecar.auth, head(`GET ${target} HTTP/1.1`, GOOD)), [431], 'the target');
});

t.test('an incomplete head is never answered 200, wherever it ends', async t => {
  const whole = head('GET /auth HTTP/1.1', GOOD);
  const cuts = [...Array(60).keys()].map(i => Math.floor((i * whole.length) / 60)).concat(whole.length - 1);
  for (const cut of cuts) {
    const conversation = await converse(gatecar.auth);
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

t.test('a head that arrives byte by byte is accepted', async t => {
  const conversation = await converse(gatecar.auth);
  conversation.socket.setNoDelay(true);
  for (const byte of head('GET /auth HTTP/1.1', GOOD)) {
    await new Promise<void>(sent => {
      conversation.socket.write(byte, 'latin1', () => sent());
    });
  }
  t.same(statuses(await conversation.answers(1)), [200]);
  conversation.destroy();
});

t.test('after all malformed requests a valid one passes, and no error was logged', async t => {
  t.equal((await sendRequest(gatecar.auth, { token })).status, 200);
  t.same(
    gatecar.logs().filter(({ level }) => level === 'error' || level === 'fatal'),
    [],
  );
});
