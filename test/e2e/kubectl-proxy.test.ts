import { loadYaml } from '@kubernetes/client-node';
import t, { type Test } from 'tap';
import { ask } from '../fixtures/ask.ts';
import { at, exampleDocuments, exampleReadme, type Yaml } from '../fixtures/examples.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { containerOf, environmentOf, podOf } from './fixtures/support/helm.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { startKubectlProxy } from './fixtures/support/kubectl-proxy.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { startHop } from './fixtures/support/recording-proxy.ts';
import { identityIn, refusalOf, rejected } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// `examples/kubectl-proxy`, addresses aside, with the real thing between gatecar and the API server.

const REVIEWS = '/apis/authentication.k8s.io/v1/tokenreviews';
const KEYS = ['/.well-known/openid-configuration', '/openid/v1/jwks'];
const audiences = ['bindcar'];

const pod = podOf(exampleDocuments('kubectl-proxy', 'deployment.yaml'));
const TIGHT = containerOf(pod, 'kubectl-proxy')['args'] as string[];
const [, block = ''] = /```yaml\n(args:.*?)```/s.exec(exampleReadme('kubectl-proxy')) ?? [];
const WITH_KEYS = (loadYaml(block) as { args: string[] }).args;
const SETTINGS: Readonly<Record<string, string>> = environmentOf(containerOf(pod), []);

t.setTimeout(startLimitMs);

t.test('in the example, the proxy alone has a credential, and gatecar asks it', async t => {
  const written = 'GATECAR_KUBE_API_URL';
  t.equal(SETTINGS[written], 'http://127.0.0.1:8001');
  for (const args of [TIGHT, WITH_KEYS]) {
    t.ok(args.includes('--port=8001') && args.includes('--address=127.0.0.1'));
    t.equal(args[0], 'proxy');
  }
  t.equal(at(pod, 'spec.automountServiceAccountToken'), false);
  t.equal(containerOf(pod)['volumeMounts'], undefined);
  t.match(at(pod, 'spec.volumes[0].projected.sources') as Yaml[], [{ serviceAccountToken: { path: 'token' } }, {}, {}]);
});

t.test('kubectl proxy', { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('kubectl')) }, async t => {
  const { api, tokenFile } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const newToken = () => api.requestToken('apps', 'web', { audiences });
  const kubeconfig = await api.writeKubeconfig({ proxy: { tokenFile } });
  const tight = await startKubectlProxy(t, kubeconfig, TIGHT);
  const hop = await startHop(t, tight.url);
  const settings = { ...SETTINGS, GATECAR_KUBE_API_URL: hop.url, GATECAR_CACHE_TTL: '0' };
  const gatecar = await startGatecar(t, settings);

  t.test('good tokens pass, bad ones are refused with the API server’s words, and no credential is sent', async t => {
    const reply = await ask(gatecar.auth, { token: await newToken() });
    t.equal(reply.status, 200);
    t.match(identityIn(reply.rawHeaders), { user: 'system:serviceaccount:apps:web', audiences: 'bindcar' });
    t.strictSame(refusalOf(await ask(gatecar.auth, { token: 'garbage' })), rejected('invalid bearer token'));
    t.equal((await ask(gatecar.auth, { token: await api.requestToken('apps', 'web') })).status, 401);
    const heads = hop.passed.map(({ method, path, headers }) => `${method} ${path} ${headers.authorization}`);
    t.strictSame(new Set(heads), new Set([`POST ${REVIEWS} undefined`]));
    const names = new Set(hop.passed.flatMap(({ headers }) => Object.keys(headers)));
    t.strictSame(
      [...names].sort(),
      ['accept', 'connection', 'content-length', 'content-type', 'host', 'user-agent'],
      'nor any header of a caller’s',
    );
  });

  t.test('nothing else comes through, however it is spelled', async t => {
    const review = { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', spec: { token: 'garbage' } };
    const headers = { 'content-type': 'application/json' };
    const one = async (method: string, path: string, more: Record<string, string> = {}) =>
      (await ask(tight.url, { method, path, headers: { ...headers, ...more }, body: JSON.stringify(review) })).status;
    t.equal(await one('POST', REVIEWS), 201);
    const paths = ['/', '/api', '/api/v1/secrets', '/version', '/metrics', `${REVIEWS}/`, `${REVIEWS}/x`, ...KEYS];
    for (const path of [...paths, `/x${REVIEWS}`, REVIEWS.replace('tokenreviews', 'selfsubjectreviews')]) {
      for (const method of ['GET', 'POST']) t.equal(await one(method, path), 403, `${method} ${path}`);
    }
    for (const path of [`/${REVIEWS}`, `/api/..${REVIEWS}`, `${REVIEWS}/../selfsubjectreviews`, `${REVIEWS}%2f..`]) {
      const status = await one('POST', path);
      t.ok([301, 307, 403].includes(status), `${path}: ${status}`);
    }
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE', 'HEAD']) t.equal(await one(method, REVIEWS), 403, method);
    t.equal(await one('POST', REVIEWS, { host: 'gatecar.gatecar.svc' }), 403, 'a Host that is no loopback name');
    t.equal(await one('POST', REVIEWS, { host: 'localhost' }), 201, 'which anybody can write');
    t.equal(
      await one('POST', REVIEWS, { authorization: 'Bearer garbage' }),
      401,
      'another credential goes before its own',
    );
  });

  t.test('killed: 503 that says so; started again: it is asked again', async t => {
    await tight.kill();
    // The hop is no part of the example: without it, as in the pod.
    const direct = await startGatecar(t, { ...settings, GATECAR_KUBE_API_URL: tight.url }, { ready: false });
    await isOutage(t, direct.auth, 'connection refused');
    await tight.start();
    await direct.ready();
    t.equal((await ask(direct.auth, { token: await newToken() })).status, 200);
    await tight.kill();
    await isOutage(t, direct.auth, 'connection refused');
    await tight.start();
    await until('it is asked again', async () => (await ask(direct.auth, { token: 'garbage' })).status === 401);
  });

  t.test('the API server gone behind it: 503, and then it goes on', async t => {
    const token = await newToken();
    await api.down();
    await isOutage(t, gatecar.auth, 'server error');
    await api.up();
    await until('it is asked again', async () => (await ask(gatecar.auth, { token })).status === 200);
  });

  t.test('a path that the proxy does not let through is an outage', async t => {
    const wrong = await startGatecar(t, { ...settings, GATECAR_KUBE_API_URL: `${tight.url}/api` }, { ready: false });
    await isOutage(t, wrong.auth, 'forbidden');
  });

  t.test('with the keys let through, junk costs no review; without them it is told once, and goes on', async t => {
    const checking = { ...settings, GATECAR_JWT_PRECHECK: 'signature' };
    const junk = async () => {
      const [head, claims] = (await newToken()).split('.');
      return `${head}.${claims}.${Buffer.alloc(256, 'x').toString('base64url')}`;
    };
    const unable = await startGatecar(t, { ...checking, GATECAR_KUBE_API_URL: tight.url });
    await unable.logged('that it has no keys', ({ msg }) => msg.startsWith('cannot fetch cluster JWKS'));
    t.equal(await reviewsDuring(api, async () => ask(unable.auth, { token: await junk() })), 1);
    t.equal((await ask(unable.auth, { token: await newToken() })).status, 200);

    const open = await startKubectlProxy(t, kubeconfig, WITH_KEYS);
    const able = await startGatecar(t, { ...checking, GATECAR_KUBE_API_URL: open.url });
    await until('it has the keys', async () => {
      return (await reviewsDuring(api, async () => ask(able.auth, { token: await junk() }))) === 0;
    });
    t.equal((await ask(able.auth, { token: await junk() })).status, 401);
    t.equal((await ask(able.auth, { token: await newToken() })).status, 200);
    for (const path of KEYS) t.equal((await ask(open.url, { path })).status, 200, path);
    for (const path of ['/api/v1/secrets', '/version', '/openid/v1', '/openid/v1/jwks/']) {
      t.equal((await ask(open.url, { path })).status, 403, path);
    }
  });

  t.test('why --accept-paths must be there: without it the API server hears everything', async t => {
    const open = await startKubectlProxy(t, kubeconfig, ['proxy']);
    const { status, body } = await ask(open.url, { path: '/api/v1/secrets' });
    t.match([status, JSON.parse(body).message], [403, /system:serviceaccount:gatecar:gatecar.*cannot list/]);
    t.equal((await ask(open.url, { path: '/version' })).status, 200);
  });
});

async function isOutage(t: Test, auth: string, cause: string): Promise<void> {
  const { status, body } = await ask(auth, { token: 'somebody-new' });
  t.strictSame([status, JSON.parse(body)], [503, { error: `TokenReview API call failed: ${cause}` }]);
}
