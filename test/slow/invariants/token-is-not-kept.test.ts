import { readFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { ISSUER, tokenIssuer } from '../../../src/dev/token-issuer.ts';
import { DISCOVERY_PATH, JWKS_PATH } from '../../../src/jwks/published-documents.ts';
import { everywhere, leaked, newJwt, newOpaque } from '../../fixtures/find-token.ts';
import { startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { metric, reaches } from '../../fixtures/metrics.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { accepts, answers, hangs, reviews, startStandIn } from '../../fixtures/stand-in-api-server.ts';

// Properties of a gatecar process: its memory, its output and its exit.

/**
 * A value that is cached with the result. If the snapshot lacked it, the snapshot could not show a
 * token either.
 */
const CACHED_VALUE = `JTI=${'kept-with-the-result-'.repeat(20)}`;

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
  const authenticate = async (expected: number, mutate?: (token: string) => string) => {
    for (const token of [newJwt(), newOpaque()]) {
      secrets.push(token);
      const headers = mutate
        ? { Authorization: mutate(token) }
        : { ...everywhere(token), Authorization: `Bearer ${token}` };
      t.equal((await sendRequest(gatecar.auth, { headers })).status, expected);
      t.equal((await sendRequest(gatecar.auth, { headers, agent })).status, expected);
    }
  };
  const username = 'system:serviceaccount:default:my-app';
  const extra = { 'authentication.kubernetes.io/credential-id': [CACHED_VALUE] };
  const groups = ['system:serviceaccounts', 'system:serviceaccounts:default', 'system:authenticated'];
  for (const user of [
    { username, extra },
    { username, groups, extra },
  ]) {
    standIn.behaviour = accepts({ user });
    await authenticate(200);
  }
  standIn.behaviour = reviews({ error: 'invalid bearer token' });
  await authenticate(401);
  standIn.behaviour = answers(500, 'boom');
  await authenticate(503);
  standIn.behaviour = hangs;
  await authenticate(503);
  await authenticate(401, token => `Bearer ${token} ${token}`);
  await authenticate(401, token => `Basic ${token}`);
  await authenticate(401, token => `Bearer ${token.replace(/=*$/, 'x'.repeat(20_000))}`);

  const file = join(t.testdir({}), 'snapshot');
  await gatecar.heapSnapshot(file);
  const snapshot = await readFile(file, 'utf8');
  t.ok(snapshot.includes(CACHED_VALUE), 'the snapshot contains whole strings');
  t.equal(leaked(snapshot, secrets, 20), undefined);
  t.match(gatecar.output(), '"level":"debug"', 'debug lines were logged');
  t.equal(leaked(gatecar.output(), secrets), undefined);
});

t.test('with signature checks the heap holds only the token header that all tokens share', async t => {
  const issuer = tokenIssuer();
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  Object.assign(standIn.documents, { [DISCOVERY_PATH]: { issuer: ISSUER }, [JWKS_PATH]: issuer.jwks });
  const gatecar = await startGatecarProcess({ GATECAR_KUBE_API_URL: standIn.url });
  t.teardown(() => gatecar.stop());
  const issue = () => issuer.issue({ namespace: 'default', serviceAccount: 'my-app', audiences: ['bindcar'] });
  await sendRequest(gatecar.auth, { token: issue() });
  await reaches(gatecar.ops, 'gatecar_jwks_available', 1);
  const secrets: string[] = [];
  for (const [expected, mutate] of [
    [200, (token: string) => token],
    [401, (token: string) => `${token.slice(0, -8)}AAAAAAAA`],
  ] as const) {
    const token = mutate(issue());
    secrets.push(token.slice(token.indexOf('.') + 1));
    t.equal((await sendRequest(gatecar.auth, { token })).status, expected);
  }
  t.equal(await metric(gatecar.ops, 'gatecar_local_rejections_total{reason="signature"}'), 1);
  const file = join(t.testdir({}), 'snapshot');
  await gatecar.heapSnapshot(file);
  t.equal(leaked(await readFile(file, 'utf8'), secrets, 20), undefined);
});

t.test('an unexpected error ends the process, and the token it quotes is not printed', async t => {
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
