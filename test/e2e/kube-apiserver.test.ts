import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { get, type RequestOptions, request } from 'node:https';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import t, { type Test } from 'tap';
import {
  apiAudience,
  type KubeApiServer,
  kubeApiServerMissing,
  startKubeApiServer,
  startLimitMs,
} from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { ServiceAccountKeys } from './fixtures/support/service-account-keys.ts';

// The other end-to-end tests stand on this API server: what they take for granted is shown here.

const audiences = ['bindcar'];
const extra = 'authentication.kubernetes.io';

t.setTimeout(startLimitMs);

t.test('a kube-apiserver of our own', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const api = await startKubeApiServer();
  t.teardown(() => api.stop());
  const { uid } = await api.createServiceAccount('apps', 'web');

  t.test('a token is good for the audience it was asked for and for no other', async t => {
    const token = await api.requestToken('apps', 'web', { audiences });
    t.match(await api.review(token, audiences), {
      authenticated: true,
      audiences,
      user: { username: 'system:serviceaccount:apps:web', uid },
    });
    t.strictSame(await api.review(token, ['other']), {
      user: {},
      error: '[invalid bearer token, token audiences ["bindcar"] is invalid for the target audiences ["other"]]',
    });
    const apiToken = await api.requestToken('apps', 'web');
    t.match(await api.review(apiToken), { authenticated: true, audiences: [apiAudience] });
  });

  t.test('a token bound to a pod names the pod and its node', async t => {
    const node = await api.createNode('node-1');
    const pod = await api.createPod('apps', 'web-0', { serviceAccount: 'web', nodeName: 'node-1' });
    const token = await api.requestToken('apps', 'web', { audiences, boundPod: { name: 'web-0', ...pod } });
    const { user } = await api.review(token, audiences);
    t.match(user?.extra, {
      [`${extra}/pod-name`]: ['web-0'],
      [`${extra}/pod-uid`]: [pod.uid],
      [`${extra}/node-name`]: ['node-1'],
      [`${extra}/node-uid`]: [node.uid],
      [`${extra}/credential-id`]: [/^JTI=[0-9a-f-]{36}$/],
    });
  });

  t.test('a token ends with the pod it is bound to, and with its ServiceAccount', async t => {
    await api.createServiceAccount('apps', 'brief');
    const pod = await api.createPod('apps', 'brief-0', { serviceAccount: 'brief' });
    const podToken = await api.requestToken('apps', 'brief', { audiences, boundPod: { name: 'brief-0', ...pod } });
    await api.deletePod('apps', 'brief-0');
    await refused(t, api, podToken, 'service account token has been invalidated');
    const token = await api.requestToken('apps', 'brief', { audiences });
    await api.deleteServiceAccount('apps', 'brief');
    await refused(t, api, token, 'serviceaccounts "brief" not found');
  });

  t.test("a legacy Secret token is good for the API server's own audience alone", async t => {
    const token = await api.createLegacySecretToken('apps', 'web');
    t.match(await api.review(token), { authenticated: true, audiences: [apiAudience], user: { uid } });
    t.match(await api.review(token, audiences), { authenticated: undefined, error: /is invalid for the target/ });
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    const copy = api.signToken({ ...claims, again: true });
    t.match(await api.review(copy), { error: "[invalid bearer token, Token does not match server's copy]" });
  });

  t.test('tokens signed by the test count as if the API server had made them', async t => {
    const now = Math.floor(Date.now() / 1_000);
    const good = await api.claimsFor('apps', 'web', { aud: audiences });
    const error = async (token: string) => (await api.review(token, audiences)).error;
    t.match(await api.review(api.signToken(good), audiences), { authenticated: true, user: { uid } });
    const past = { iat: now - 100, nbf: now - 100, exp: now - 61 };
    t.match(await error(api.signToken({ ...good, ...past })), 'service account token has expired');
    t.match(await error(api.signToken({ ...good, nbf: now + 90 })), 'service account token is not valid yet');
    const foreign = await ServiceAccountKeys.generate();
    t.match(await error(foreign.sign(good)), 'invalid signature, no keys found');
    t.match(await error(foreign.sign(good, { kid: api.keys.kid })), 'error in cryptographic primitive');
    t.match(await error(api.signToken(good, { alg: 'none' })), 'error in cryptographic primitive');
    t.match(await error(api.signToken(good, { alg: 'HS256' })), 'error in cryptographic primitive');
  });

  t.test('the token file gives users that are no ServiceAccounts', async t => {
    for (const { token, username, uid, groups } of Object.values(api.opaqueTokens)) {
      t.match(await api.review(token), { authenticated: true, user: { username, uid, groups } });
    }
  });

  t.test('each review is counted, and what is refused before it is not', async t => {
    const token = await api.requestToken('apps', 'web', { audiences });
    const before = await api.reviews();
    await Promise.all(Array.from({ length: 50 }, () => api.review(token, audiences)));
    t.equal(await api.reviews(), before + 50);
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token } };
    const asJane = { token: api.opaqueTokens.jane.token };
    const { status } = await api.request('POST', '/apis/authentication.k8s.io/v1/tokenreviews', body, asJane);
    t.equal(status, 403);
    t.equal(await api.reviews(), before + 50);
  });

  t.test('manifests are applied from YAML and from objects', async t => {
    const subject = { kind: 'ServiceAccount', name: 'reviewer', namespace: 'reviewers' };
    await api.apply(
      'apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: reviewer\n  namespace: reviewers\n---\n' +
        'kind: ClusterRole\napiVersion: rbac.authorization.k8s.io/v1\nmetadata: # why\n  name: "reviewer"\nrules:\n' +
        '  - apiGroups: [authentication.k8s.io]\n    resources: [tokenreviews]\n    verbs: [create]\n',
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'ClusterRoleBinding',
        metadata: { name: 'reviewer' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'reviewer' },
        subjects: [subject],
      },
    );
    const token = await api.requestToken('reviewers', 'reviewer');
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token } };
    const { status } = await api.request('POST', '/apis/authentication.k8s.io/v1/tokenreviews', body, { token });
    t.equal(status, 201);
  });

  t.test('each kind of kubeconfig logs in', async t => {
    const tokenFile = join(api.directory, 'jane');
    await writeFile(tokenFile, api.opaqueTokens.jane.token);
    const ann = { user: 'ann', groups: ['b', 'c/d'] };
    const file = await api.writeKubeconfig({
      token: { token: api.opaqueTokens.jane.token },
      'token file': { tokenFile },
      'inline certificate': { clientCertificate: ann },
      'certificate files': { clientCertificate: { ...ann, inline: false } },
      'exec plugin': { execPlugin: { tokenFile } },
    });
    const jane = { username: 'jane', groups: ['team a', 'b', 'system:authenticated'] };
    const certified = { username: 'ann', groups: ['b', 'c/d', 'system:authenticated'] };
    t.match(await whoAmI(file, 'token'), jane);
    // The client only knows this field by a name of its own, `token-file`; client-go and kubectl know this one.
    t.strictSame(JSON.parse(await readFile(file, 'utf8')).users[1].user, { tokenFile });
    t.match(await whoAmI(file, 'inline certificate'), certified);
    t.match(await whoAmI(file, 'certificate files'), certified);
    t.match(await whoAmI(file, 'exec plugin'), jane);
    t.match(await whoAmI(api.kubeconfigFile, 'admin'), { username: 'admin', groups: ['system:masters'] });
  });

  t.test('paused, it answers nothing; resumed, it goes on', async t => {
    await api.pause();
    await t.rejects(api.request('GET', '/livez', undefined, { timeoutMs: 300 }), { name: 'AbortError' });
    api.resume();
    t.equal((await api.request('GET', '/livez')).status, 200);
  });

  t.test('down, it refuses connections; up again, it has the same address, keys and data', async t => {
    const token = await api.requestToken('apps', 'web', { audiences });
    await api.down();
    await t.rejects(api.request('GET', '/livez'), { code: 'ECONNREFUSED' });
    await api.up();
    t.match(await api.review(token, audiences), { authenticated: true, user: { uid } });
    t.equal(await api.reviews(), 1, 'it counts from 0 again');
  });

  t.test('it comes back with another certificate, from another authority', async t => {
    const { ca } = api;
    await api.restart({ newAuthority: true });
    t.not(api.ca, ca);
    t.equal(await readFile(api.caFile, 'utf8'), api.ca);
    t.equal((await api.request('GET', '/livez')).status, 200);
  });
});

t.test('nothing survives a test that is killed', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const module = new URL('fixtures/support/kube-apiserver.ts', import.meta.url).href;
  const script = `import { startKubeApiServer } from '${module}';
    const api = await startKubeApiServer();
    await api.pause(); // suspended, it cannot end by itself
    process.stdout.write(JSON.stringify([api.url, api.directory]));
    setInterval(() => {}, 1_000);`;
  const test = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [started] = await once(test.stdout, 'data');
  const [url, directory] = JSON.parse(String(started));
  t.ok(existsSync(directory));
  test.kill('SIGKILL');
  await once(test, 'exit');
  while (existsSync(directory)) await sleep(50);
  await t.rejects(once(get(`${url}/livez`), 'response'), { code: 'ECONNREFUSED' });
});

t.test('what is missing is said', async t => {
  t.equal(skipWithout(undefined), false);
  const { CI } = process.env;
  t.teardown(() => {
    if (CI === undefined) delete process.env['CI'];
    else process.env['CI'] = CI;
  });
  delete process.env['CI'];
  t.equal(skipWithout('install: x'), 'skipped: install: x');
  process.env['CI'] = 'true';
  t.throws(() => skipWithout('install: x'), { message: 'install: x' });
});

async function refused(t: Test, api: KubeApiServer, token: string, cause: string): Promise<void> {
  const deadline = Date.now() + 15_000;
  // The API server's authenticator hears of a deletion by a watch, and remembers a yes from before that for 10 s.
  while ((await api.review(token, audiences)).authenticated && Date.now() < deadline) await sleep(20);
  t.match(await api.review(token, audiences), { authenticated: undefined, error: `[invalid bearer token, ${cause}]` });
}

/** Who a context of a kubeconfig is, with the client that gatecar uses. */
async function whoAmI(file: string, context: string): Promise<unknown> {
  const config = new KubeConfig();
  config.loadFromFile(file);
  config.setCurrentContext(context);
  const options: RequestOptions = { method: 'POST', headers: { 'content-type': 'application/json' } };
  await config.applyToHTTPSOptions(options);
  const asked = request(
    `${config.getCurrentCluster()?.server}/apis/authentication.k8s.io/v1/selfsubjectreviews`,
    options,
  );
  asked.end('{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}');
  const [response] = await once(asked, 'response');
  const { status } = (await json(response)) as { status: { userInfo: unknown } };
  return status.userInfo;
}
