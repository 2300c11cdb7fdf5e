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

// Verifies the API server on which the other end-to-end tests rely.

const audiences = ['bindcar'];
const extra = 'authentication.kubernetes.io';

t.setTimeout(startLimitMs);

t.test('the kube-apiserver of the tests', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
  const api = await startKubeApiServer();
  t.teardown(() => api.stop());
  const { uid } = await api.createServiceAccount('apps', 'web');

  t.test('the API server accepts a token for its own audience only', async t => {
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

  t.test('the review of a token bound to a pod names the pod and its node', async t => {
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

  t.test('a token becomes invalid with its pod, and with its ServiceAccount', async t => {
    await api.createServiceAccount('apps', 'brief');
    const pod = await api.createPod('apps', 'brief-0', { serviceAccount: 'brief' });
    const podToken = await api.requestToken('apps', 'brief', { audiences, boundPod: { name: 'brief-0', ...pod } });
    await api.deletePod('apps', 'brief-0');
    await assertRejected(t, api, podToken, 'service account token has been invalidated');
    const token = await api.requestToken('apps', 'brief', { audiences });
    await api.deleteServiceAccount('apps', 'brief');
    await assertRejected(t, api, token, 'serviceaccounts "brief" not found');
  });

  t.test('the API server accepts a legacy Secret token for its own audience only', async t => {
    const token = await api.createLegacySecretToken('apps', 'web');
    t.match(await api.review(token), { authenticated: true, audiences: [apiAudience], user: { uid } });
    t.match(await api.review(token, audiences), { authenticated: undefined, error: /is invalid for the target/ });
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    const copy = api.signToken({ ...claims, again: true });
    t.match(await api.review(copy), { error: "[invalid bearer token, Token does not match server's copy]" });
  });

  t.test('tokens signed by the test count as if the API server had issued them', async t => {
    const now = Math.floor(Date.now() / 1_000);
    const validClaims = await api.claimsFor('apps', 'web', { aud: audiences });
    const error = async (token: string) => (await api.review(token, audiences)).error;
    t.match(await api.review(api.signToken(validClaims), audiences), { authenticated: true, user: { uid } });
    const past = { iat: now - 100, nbf: now - 100, exp: now - 61 };
    t.match(await error(api.signToken({ ...validClaims, ...past })), 'service account token has expired');
    t.match(await error(api.signToken({ ...validClaims, nbf: now + 90 })), 'service account token is not valid yet');
    const unknownKeys = await ServiceAccountKeys.generate();
    t.match(await error(unknownKeys.sign(validClaims)), 'invalid signature, no keys found');
    t.match(await error(unknownKeys.sign(validClaims, { kid: api.keys.kid })), 'error in cryptographic primitive');
    t.match(await error(api.signToken(validClaims, { alg: 'none' })), 'error in cryptographic primitive');
    t.match(await error(api.signToken(validClaims, { alg: 'HS256' })), 'error in cryptographic primitive');
  });

  t.test('users of the token file are not ServiceAccounts', async t => {
    for (const { token, username, uid, groups } of Object.values(api.opaqueTokens)) {
      t.match(await api.review(token), { authenticated: true, user: { username, uid, groups } });
    }
  });

  t.test('the API server counts each review, and no request that it denies before', async t => {
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

  t.test('each kind of kubeconfig authenticates', async t => {
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
    // The client calls this field `token-file`, which no other tool reads; client-go and kubectl
    // call it `tokenFile`.
    t.strictSame(JSON.parse(await readFile(file, 'utf8')).users[1].user, { tokenFile });
    t.match(await whoAmI(file, 'inline certificate'), certified);
    t.match(await whoAmI(file, 'certificate files'), certified);
    t.match(await whoAmI(file, 'exec plugin'), jane);
    t.match(await whoAmI(api.kubeconfigFile, 'admin'), { username: 'admin', groups: ['system:masters'] });
  });

  t.test('a paused API server does not respond, and a resumed one does', async t => {
    await api.pause();
    await t.rejects(api.request('GET', '/livez', undefined, { timeoutMs: 300 }), { name: 'AbortError' });
    api.resume();
    t.equal((await api.request('GET', '/livez')).status, 200);
  });

  t.test('an API server that is down refuses connections; up again it has the same address, keys and data', async t => {
    const token = await api.requestToken('apps', 'web', { audiences });
    await api.down();
    await t.rejects(api.request('GET', '/livez'), { code: 'ECONNREFUSED' });
    await api.up();
    t.match(await api.review(token, audiences), { authenticated: true, user: { uid } });
    t.equal(await api.reviews(), 1, 'its counter starts at 0');
  });

  t.test('a restarted API server can have another certificate from another CA', async t => {
    const { ca } = api;
    await api.restart({ newAuthority: true });
    t.not(api.ca, ca);
    t.equal(await readFile(api.caFile, 'utf8'), api.ca);
    t.equal((await api.request('GET', '/livez')).status, 200);
  });
});

t.test('no process or file survives a killed test', { skip: skipWithout(kubeApiServerMissing()) }, async t => {
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

t.test('skipWithout names the missing tool, and throws in CI', async t => {
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

async function assertRejected(t: Test, api: KubeApiServer, token: string, cause: string): Promise<void> {
  const deadline = Date.now() + 15_000;
  // The API server's authenticator watches deletions, and caches an earlier allow for 10 s.
  while ((await api.review(token, audiences)).authenticated && Date.now() < deadline) await sleep(20);
  t.match(await api.review(token, audiences), { authenticated: undefined, error: `[invalid bearer token, ${cause}]` });
}

/** Returns the user of a kubeconfig's context, through the client library that gatecar uses. */
async function whoAmI(file: string, context: string): Promise<unknown> {
  const config = new KubeConfig();
  config.loadFromFile(file);
  config.setCurrentContext(context);
  const options: RequestOptions = { method: 'POST', headers: { 'content-type': 'application/json' } };
  await config.applyToHTTPSOptions(options);
  const outgoing = request(
    `${config.getCurrentCluster()?.server}/apis/authentication.k8s.io/v1/selfsubjectreviews`,
    options,
  );
  outgoing.end('{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}');
  const [response] = await once(outgoing, 'response');
  const { status } = (await json(response)) as { status: { userInfo: unknown } };
  return status.userInfo;
}
