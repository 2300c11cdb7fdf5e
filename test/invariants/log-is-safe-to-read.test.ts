import t from 'tap';
import { newJwt } from '../fixtures/find-token.ts';
import { startGatecar } from '../fixtures/gatecar.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';

const standIn = await startStandIn(accepts());
t.teardown(() => standIn.close());
const gatecar = await startGatecar({
  GATECAR_KUBE_API_URL: standIn.url,
  GATECAR_ALLOWED_NAMESPACES: 'default',
  GATECAR_TRUSTED_PROXIES: '127.0.0.1',
  GATECAR_CLIENT_IP_HEADER: 'X-Forwarded-For',
});
t.teardown(() => gatecar.stop());

/** Terminals treat U+009B as the start of a control sequence, like ESC [. */
const COMMANDS = '\x9b2J\x9b31m\x85\x90 \xad\xff';

t.test('control characters in header values are not logged', async t => {
  const headers = Object.fromEntries(
    ['X-Request-ID', 'X-Original-URI', 'X-Original-Method', 'X-Forwarded-For', 'User-Agent'].map(name => [
      name,
      COMMANDS,
    ]),
  );
  t.equal((await sendRequest(gatecar.auth, { headers })).status, 401);
  t.equal((await sendRequest(gatecar.auth, { headers, token: 'good' })).status, 200);
  t.match(gatecar.logText(), '"requestId":"?2J?31m?? ??"');
  t.match(gatecar.logText(), /^[\n\x20-\x7e]*$/);
});

t.test('control characters in a denied username are not logged, and its line is short', async t => {
  for (const name of [`a${COMMANDS}\u202e\u2028\r\n\x1b[0m`, 'ü'.repeat(100_000)]) {
    for (const username of [name, `system:serviceaccount:default:${name}`]) {
      standIn.behaviour = accepts({ user: { username } });
      t.equal((await sendRequest(gatecar.auth, { token: `of-${standIn.requests.length}` })).status, 401);
    }
  }
  t.match(gatecar.logText(), '"username":"a%C2%9B2J');
  t.match(gatecar.logText(), /^[\n\x20-\x7e]*$/);
  for (const line of gatecar.logText().split('\n')) t.ok(line.length < 4096);
});

t.test('control characters in an allowed username are not logged', async t => {
  const permissive = await startGatecar({ GATECAR_KUBE_API_URL: standIn.url });
  t.teardown(() => permissive.stop());
  standIn.behaviour = accepts({ user: { username: `a${COMMANDS}` } });
  t.equal((await sendRequest(permissive.auth, { token: 'odd-name' })).status, 200);
  t.match(permissive.logText(), '"username":"a%C2%9B2J');
  t.match(permissive.logText(), /^[\n\x20-\x7e]*$/);
});

t.test('an address with a zone is ignored: a zone may contain anything, including a token', async t => {
  const jwt = newJwt().replaceAll('_', '-');
  for (const chain of [`fe80::1%${jwt}`, `192.0.2.1, fe80::1%${jwt}`, `fe80::1%${jwt}, 127.0.0.1`]) {
    t.equal((await sendRequest(gatecar.auth, { headers: { 'X-Forwarded-For': chain } })).status, 401);
  }
  t.notMatch(gatecar.logText(), 'fe80');
  t.notMatch(gatecar.logText(), jwt.slice(0, 20));
});

t.test('a header of 60 KB that looks like many token starts is processed quickly and truncated in the log', async t => {
  for (let i = 0; i < 100; i += 1) {
    const headers = { 'X-Request-ID': 'eyJ'.repeat(20_000), Authorization: `Bearer ${i}` };
    standIn.behaviour = accepts({ user: { username: `user-${i}` } });
    t.equal((await sendRequest(gatecar.auth, { headers })).status, 401);
  }
  t.match(gatecar.logText(), `"requestId":"${'eyJ'.repeat(85)}e"`);
});

t.test(
  'a header of 25 KB in any encoding, with a credential of that size, costs little CPU and gives short lines',
  async t => {
    const pieces = ['%25', '%2541', '\\', 'a/', '&#x41', '@', '%3', 'A', 'access_token ', `${'A'.repeat(22)}.`];
    standIn.behaviour = accepts({ user: { username: 'user' } });
    const usedBefore = process.cpuUsage();
    const before = gatecar.logText().length;
    for (const piece of pieces) {
      const value = piece.repeat(25_000 / piece.length);
      const headers = { 'X-Original-URI': `/${value}`, Authorization: `Basic ${value}` };
      t.equal((await sendRequest(gatecar.auth, { headers })).status, 401, piece);
    }
    const { user } = process.cpuUsage(usedBefore);
    t.ok(user < 1_500_000, `${user} µs of CPU`);
    for (const line of gatecar.logText().slice(before).split('\n')) t.ok(line.length < 1024);
  },
);
