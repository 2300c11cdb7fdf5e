import { readFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { ISSUER, tokenIssuer } from '../../../src/dev/token-issuer.ts';
import { DISCOVERY_PATH, JWKS_PATH } from '../../../src/jwks/published-documents.ts';
import { ask } from '../../fixtures/ask.ts';
import { everywhere, leaked, newJwt, newOpaque } from '../../fixtures/find-token.ts';
import { startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { metric, reaches } from '../../fixtures/metrics.ts';
import { accepts, answers, hangs, reviews, startStandIn } from '../../fixtures/stand-in-api-server.ts';

// What holds for one that runs in a process of its own: its memory, its output, its end.

/** Kept for as long as the result is, so that a snapshot which lacks it could not show a token either. */
const KEPT = `JTI=${'kept-with-the-result-'.repeat(20)}`;

t.test('the heap holds no token once its request has been answered, not even on an open connection', async t => {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecarProcess({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_REVIEW_TIMEOUT: '200ms',
    GATECAR_TRUSTED_PROXIES: '127.0.0.1',
  });
  t.teardown(() => gatecar.stop());
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());

  const secrets: string[] = [];
  const say = async (expected: number, spoil?: (token: string) => string) => {
    for (const token of [newJwt(), newOpaque()]) {
      secrets.push(token);
      const headers = spoil
        ? { Authorization: spoil(token) }
        : { ...everywhere(token), Authorization: `Bearer ${token}` };
      t.equal((await ask(gatecar.auth, { headers })).status, expected);
      t.equal((await ask(gatecar.auth, { headers, agent })).status, expected);
    }
  };
  const username = 'system:serviceaccount:default:my-app';
  const extra = { 'authentication.kubernetes.io/credential-id': [KEPT] };
  const groups = ['system:serviceaccounts', 'system:serviceaccounts:default', 'system:authenticated'];
  for (const user of [
    { username, extra },
    { username, groups, extra },
  ]) {
    standIn.behaviour = accepts({ user });
    await say(200);
  }
  standIn.behaviour = reviews({ error: 'invalid bearer token' });
  await say(401);
  standIn.behaviour = answers(500, 'boom');
  await say(503);
  standIn.behaviour = hangs;
  await say(503);
  await say(401, token => `Bearer ${token} ${token}`);
  await say(401, token => `Basic ${token}`);
  await say(401, token => `Bearer ${token.replace(/=*$/, 'x'.repeat(20_000))}`);

  const file = join(t.testdir({}), 'snapshot');
  await gatecar.heapSnapshot(file);
  const snapshot = await readFile(file, 'utf8');
  t.ok(snapshot.includes(KEPT), 'the snapshot shows whole strings');
  t.equal(leaked(snapshot, secrets, 20), undefined);
  t.match(gatecar.output(), '"level":"debug"', 'all was logged');
  t.equal(leaked(gatecar.output(), secrets), undefined);
});

t.test(
  'nor does it where signatures are checked: what is kept of a token is its header, which is every token’s',
  async t => {
    const issuer = tokenIssuer();
    const standIn = await startStandIn(accepts());
    t.teardown(() => standIn.close());
    Object.assign(standIn.documents, { [DISCOVERY_PATH]: { issuer: ISSUER }, [JWKS_PATH]: issuer.jwks });
    const gatecar = await startGatecarProcess({ GATECAR_KUBE_API_URL: standIn.url });
    t.teardown(() => gatecar.stop());
    const issue = () => issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
    await ask(gatecar.auth, { token: issue() });
    await reaches(gatecar.ops, 'gatecar_jwks_available', 1);
    const secrets: string[] = [];
    for (const [expected, spoil] of [
      [200, (token: string) => token],
      [401, (token: string) => `${token.slice(0, -8)}AAAAAAAA`],
    ] as const) {
      const token = spoil(issue());
      secrets.push(token.slice(token.indexOf('.') + 1));
      t.equal((await ask(gatecar.auth, { token })).status, expected);
    }
    t.equal(await metric(gatecar.ops, 'gatecar_local_rejections_total{reason="signature"}'), 1);
    const file = join(t.testdir({}), 'snapshot');
    await gatecar.heapSnapshot(file);
    t.equal(leaked(await readFile(file, 'utf8'), secrets, 20), undefined);
  },
);

t.test('an unexpected error ends the process and does not print the token that it quotes', async t => {
  const jwt = newJwt();
  const opaque = newOpaque();
  for (const message of [
    `Unexpected token in ${JSON.stringify({ spec: { token: jwt } })}`,
    `${jwt}: no such thing`,
    `invalid header {"authorization":"Bearer ${opaque}"}`,
    `authorization: bearer ${opaque}\nhost: x`,
  ]) {
    const gatecar = await startGatecarProcess({ GATECAR_MODE: 'format-only' });
    t.teardown(() => gatecar.stop());
    gatecar.throwUncaught(message);
    t.equal(await gatecar.exitCode, 1);
    t.match(gatecar.output(), '"msg":"uncaught error"');
    t.match(gatecar.output(), '[token]');
    t.equal(leaked(gatecar.output(), [jwt, opaque]), undefined);
  }
});
