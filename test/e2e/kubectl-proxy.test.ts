import { loadYaml } from '@kubernetes/client-node';
import t from 'tap';
import { at, exampleDocuments, exampleReadme, type Yaml } from '../fixtures/examples.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { containerOf, environmentOf, podOf } from './fixtures/support/helm.ts';
import { assertNoReviewsWithJwks, assertReviewsWithoutJwks } from './fixtures/support/jwks-through-proxy.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { startKubectlProxy } from './fixtures/support/kubectl-proxy.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { startRecordingProxy } from './fixtures/support/recording-proxy.ts';
import { assertUnavailable, denialOf, identityIn, rejected } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// Tests `examples/kubectl-proxy` with other addresses, with the real kubectl proxy between gatecar
// and the API server.

const REVIEWS = '/apis/authentication.k8s.io/v1/tokenreviews';
const KEYS = ['/.well-known/openid-configuration', '/openid/v1/jwks'];
const audiences = ['bindcar'];

const pod = podOf(exampleDocuments('kubectl-proxy', 'deployment.yaml'));
const TIGHT = containerOf(pod, 'kubectl-proxy')['args'] as string[];
const [, block = ''] = /```yaml\n(args:.*?)```/s.exec(exampleReadme('kubectl-proxy')) ?? [];
const WITH_KEYS = (loadYaml(block) as { args: string[] }).args;
const SETTINGS: Readonly<Record<string, string>> = environmentOf(containerOf(pod), []);

t.setTimeout(startLimitMs);

t.test('in the example only the proxy has a credential, and gatecar sends its reviews to it', async t => {
  const setting = 'GATECAR_KUBE_API_URL';
  t.equal(SETTINGS[setting], 'http://127.0.0.1:8001');
  for (const args of [TIGHT, WITH_KEYS]) {
    t.ok(args.includes('--port=8001') && args.includes('--address=127.0.0.1'));
    t.equal(args[0], 'proxy');
  }
  t.equal(at(pod, 'spec.automountServiceAccountToken'), false);
  t.equal(containerOf(pod)['volumeMounts'], undefined);
  t.match(at(pod, 'spec.volumes[0].projected.sources') as Yaml[], [{ serviceAccountToken: { path: 'token' } }, {}, {}]);
});

t.test(
  'gatecar reviews tokens through kubectl proxy',
  { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('kubectl')) },
  async t => {
    const { api, tokenFile } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const newToken = () => api.requestToken('apps', 'web', { audiences });
    const kubeconfig = await api.writeKubeconfig({ proxy: { tokenFile } });
    const tight = await startKubectlProxy(t, kubeconfig, TIGHT);
    const hop = await startRecordingProxy(t, tight.url);
    const settings = { ...SETTINGS, GATECAR_KUBE_API_URL: hop.url, GATECAR_CACHE_TTL: '0' };
    const gatecar = await startGatecar(t, settings);

    t.test(
      'through kubectl proxy valid tokens pass, invalid ones are rejected with the API server’s text, and no credential is sent',
      async t => {
        const reply = await sendRequest(gatecar.auth, { token: await newToken() });
        t.equal(reply.status, 200);
        t.match(identityIn(reply.rawHeaders), { user: 'system:serviceaccount:apps:web', audiences: 'bindcar' });
        t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: 'garbage' })), rejected('invalid bearer token'));
        t.equal((await sendRequest(gatecar.auth, { token: await api.requestToken('apps', 'web') })).status, 401);
        const heads = hop.passed.map(({ method, path, headers }) => `${method} ${path} ${headers.authorization}`);
        t.strictSame(new Set(heads), new Set([`POST ${REVIEWS} undefined`]));
        const names = new Set(hop.passed.flatMap(({ headers }) => Object.keys(headers)));
        t.strictSame(
          [...names].sort(),
          ['accept', 'connection', 'content-length', 'content-type', 'host', 'user-agent'],
          'no header of a client is sent',
        );
      },
    );

    t.test('kubectl proxy rejects every other request, however its path is written', async t => {
      const review = { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', spec: { token: 'garbage' } };
      const headers = { 'content-type': 'application/json' };
      const send = async (method: string, path: string, extra: Record<string, string> = {}) =>
        (
          await sendRequest(tight.url, {
            method,
            path,
            headers: { ...headers, ...extra },
            body: JSON.stringify(review),
          })
        ).status;
      t.equal(await send('POST', REVIEWS), 201);
      const paths = ['/', '/api', '/api/v1/secrets', '/version', '/metrics', `${REVIEWS}/`, `${REVIEWS}/x`, ...KEYS];
      for (const path of [...paths, `/x${REVIEWS}`, REVIEWS.replace('tokenreviews', 'selfsubjectreviews')]) {
        for (const method of ['GET', 'POST']) t.equal(await send(method, path), 403, `${method} ${path}`);
      }
      for (const path of [`/${REVIEWS}`, `/api/..${REVIEWS}`, `${REVIEWS}/../selfsubjectreviews`, `${REVIEWS}%2f..`]) {
        const status = await send('POST', path);
        t.ok([301, 307, 403].includes(status), `${path}: ${status}`);
      }
      for (const method of ['GET', 'PUT', 'PATCH', 'DELETE', 'HEAD']) t.equal(await send(method, REVIEWS), 403, method);
      t.equal(await send('POST', REVIEWS, { host: 'gatecar.gatecar.svc' }), 403, 'a Host that is not a loopback name');
      t.equal(await send('POST', REVIEWS, { host: 'localhost' }), 201, 'any client may send this Host');
      t.equal(
        await send('POST', REVIEWS, { authorization: 'Bearer garbage' }),
        401,
        'another credential takes precedence over the proxy’s',
      );
    });

    t.test('kubectl proxy killed: 503 with the cause; restarted: reviews succeed again', async t => {
      await tight.kill();
      // The recording proxy is not part of the example. Here gatecar connects directly, as in the
      // pod.
      const direct = await startGatecar(t, { ...settings, GATECAR_KUBE_API_URL: tight.url }, { ready: false });
      await assertUnavailable(t, direct.auth, 'connection refused');
      await tight.start();
      await direct.ready();
      t.equal((await sendRequest(direct.auth, { token: await newToken() })).status, 200);
      await tight.kill();
      await assertUnavailable(t, direct.auth, 'connection refused');
      await tight.start();
      await until(
        'reviews succeed again',
        async () => (await sendRequest(direct.auth, { token: 'garbage' })).status === 401,
      );
    });

    t.test('the API server down behind kubectl proxy: 503, and then reviews succeed again', async t => {
      const token = await newToken();
      await api.down();
      await assertUnavailable(t, gatecar.auth, 'server error');
      await api.up();
      await until('reviews succeed again', async () => (await sendRequest(gatecar.auth, { token })).status === 200);
    });

    t.test('a path that kubectl proxy rejects is an outage', async t => {
      const wrong = await startGatecar(t, { ...settings, GATECAR_KUBE_API_URL: `${tight.url}/api` }, { ready: false });
      await assertUnavailable(t, wrong.auth, 'forbidden');
    });

    t.test(
      'with the JWKS accepted, invalid tokens cost no review; without it, one line is logged and reviews continue',
      async t => {
        await assertReviewsWithoutJwks(t, { api, newToken }, { ...settings, GATECAR_KUBE_API_URL: tight.url });
        const jwksProxy = await startKubectlProxy(t, kubeconfig, WITH_KEYS);
        await assertNoReviewsWithJwks(t, { api, newToken }, { ...settings, GATECAR_KUBE_API_URL: jwksProxy.url });
        for (const path of KEYS) t.equal((await sendRequest(jwksProxy.url, { path })).status, 200, path);
        for (const path of ['/api/v1/secrets', '/version', '/openid/v1', '/openid/v1/jwks/']) {
          t.equal((await sendRequest(jwksProxy.url, { path })).status, 403, path);
        }
      },
    );

    t.test('without --accept-paths kubectl proxy forwards every request to the API server', async t => {
      const permissive = await startKubectlProxy(t, kubeconfig, ['proxy']);
      const { status, body } = await sendRequest(permissive.url, { path: '/api/v1/secrets' });
      t.match([status, JSON.parse(body).message], [403, /system:serviceaccount:gatecar:gatecar.*cannot list/]);
      t.equal((await sendRequest(permissive.url, { path: '/version' })).status, 200);
    });
  },
);
