import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadYaml } from '@kubernetes/client-node';
import t from 'tap';
import { at, exampleDocuments, exampleReadme, type Yaml } from '../fixtures/examples.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { type AccessControl, type Dapr, startDapr } from './fixtures/support/dapr.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { clusterTools, containerOf, documentOf, environmentOf, podOf, render } from './fixtures/support/helm.ts';
import { assertNoReviewsWithJwks, assertReviewsWithoutJwks } from './fixtures/support/jwks-through-proxy.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { startKubectlProxy } from './fixtures/support/kubectl-proxy.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { assertUnavailable, denialOf, identityIn, rejected } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// Tests `examples/dapr` with other addresses: a stand-in for daprd in front of the real `kubectl
// proxy` and API server.

const REVIEWS = '/apis/authentication.k8s.io/v1/tokenreviews';
const APP = 'kube-proxy.proxy-system';
const ORIGIN = 'http://localhost:3500';

const proxyPod = podOf(exampleDocuments('dapr', 'kube-proxy.yaml'));
const ARGS = containerOf(proxyPod, 'kubectl-proxy')['args'] as string[];
const values = exampleDocuments('dapr', 'values.yaml')[0] as Yaml;
const accessControl = at(exampleDocuments('dapr', 'access-control.yaml')[0], 'spec.accessControl') as Yaml;
const [, keyOperations = ''] = /```yaml\n( *- \{ name: .*?)```/s.exec(exampleReadme('dapr')) ?? [];
const [, keyArgs = ''] = /```yaml\n(args:.*?)```/s.exec(exampleReadme('kubectl-proxy')) ?? [];
const [, byHeader = ''] = /`GATECAR_KUBE_HEADERS=(dapr-app-id=[^`]+)`/.exec(exampleReadme('dapr')) ?? [];

t.setTimeout(startLimitMs);

t.test('access control allows gatecar to send reviews, and every other caller nothing', async t => {
  const [configuration] = exampleDocuments('dapr', 'access-control.yaml');
  t.strictSame(at(configuration, 'spec.accessControl'), {
    defaultAction: 'deny',
    trustDomain: 'public',
    policies: [
      {
        appId: at(values, 'podAnnotations')?.['dapr.io/app-id' as never],
        namespace: 'gatecar',
        trustDomain: 'public',
        defaultAction: 'deny',
        operations: [{ name: REVIEWS, httpVerb: ['POST'], action: 'allow' }],
      },
    ],
  });
  const { annotations } = at(proxyPod, 'metadata') as Record<string, Yaml>;
  t.match(annotations, {
    'dapr.io/app-id': APP.split('.')[0],
    'dapr.io/app-port': '8001',
    'dapr.io/config': at(configuration, 'metadata.name'),
  });
  t.equal(at(configuration, 'metadata.namespace'), APP.split('.')[1]);
  t.ok(ARGS.includes(`--accept-paths=^${REVIEWS.replaceAll('.', '\\.')}$`) && ARGS.includes('--address=127.0.0.1'));
});

const missing = kubeApiServerMissing() ?? gatewayMissing('kubectl') ?? gatewayMissing('helm');
t.test('gatecar reviews tokens through Dapr', { skip: skipWithout(missing) }, async t => {
  const { api, tokenFile } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const newToken = () => api.requestToken('apps', 'web', { audiences: ['bindcar'] });
  const kubeconfig = await api.writeKubeconfig({ proxy: { tokenFile } });
  const proxy = await startKubectlProxy(t, kubeconfig, ARGS);
  const apiTokenFile = join(tempDir(t), 'token');
  writeFileSync(apiTokenFile, 'first\n');

  const rendered = await render(clusterTools(t), values);
  const environment = environmentOf(containerOf(podOf(rendered)), rendered);
  const settingsFor = (url: string, headers: string) => ({
    GATECAR_TOKEN_AUDIENCES: 'bindcar',
    GATECAR_CACHE_TTL: '0',
    GATECAR_JWT_PRECHECK: String(environment['GATECAR_JWT_PRECHECK']),
    GATECAR_KUBE_API_URL: url,
    GATECAR_KUBE_HEADERS: headers.replace('@/dapr/token', `@${apiTokenFile}`),
  });
  const egress = at(documentOf(rendered, 'NetworkPolicy'), 'spec.egress') as Yaml[];
  t.strictSame(
    egress.filter(rule => at(rule, 'to[0].podSelector.matchLabels.app') === at(proxyPod, 'metadata.labels.app')).length,
    1,
    'the NetworkPolicy allows daprd to reach the pod of the proxy',
  );
  const prefix = String(environment['GATECAR_KUBE_API_URL']);
  const forms: Record<string, (dapr: Dapr) => Record<string, string>> = {
    prefix: dapr => settingsFor(prefix.replace(ORIGIN, dapr.url), String(environment['GATECAR_KUBE_HEADERS'])),
    header: dapr => settingsFor(dapr.url, byHeader),
  };

  t.test('with access control only gatecar may invoke reviews; without it every application may', async t => {
    const dapr = await startDapr(t, { appId: APP, to: proxy.url, apiToken: 'first', accessControl });
    const invoke = async (method: string, path: string) => {
      const review = { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', spec: { token: await newToken() } };
      const headers = { 'content-type': 'application/json', 'dapr-api-token': 'first' };
      const body = method === 'GET' ? '' : JSON.stringify(review);
      return (await sendRequest(dapr.url, { method, path: `/v1.0/invoke/${APP}/method${path}`, headers, body })).status;
    };
    t.equal(await invoke('POST', REVIEWS), 201);
    for (const path of ['/api/v1/secrets', '/openid/v1/jwks', `${REVIEWS}/x`]) {
      t.equal(await invoke('GET', path), 403, path);
      t.equal(await invoke('POST', path), 403, path);
    }
    t.equal(await invoke('GET', REVIEWS), 403);
    for (const caller of [
      { appId: 'other', namespace: 'gatecar' },
      { appId: 'gatecar', namespace: 'other' },
    ]) {
      dapr.caller = caller;
      t.equal(await invoke('POST', REVIEWS), 403, JSON.stringify(caller));
    }
    dapr.accessControl = undefined;
    t.equal(await invoke('POST', REVIEWS), 201, 'without access control, any application may invoke reviews');
    t.equal(await invoke('GET', '/api/v1/secrets'), 403, 'the accepted paths of kubectl proxy still apply');
    const { body } = await sendRequest(dapr.url, {
      path: `/v1.0/invoke/${APP}/method/api/v1/secrets`,
      headers: { 'dapr-api-token': 'first' },
    });
    t.notMatch(body, 'access control policy', 'the refusal comes from kubectl proxy');
  });

  for (const [form, settings] of Object.entries(forms)) {
    t.test(`by ${form}: results pass through Dapr, and Dapr's own errors are outages`, async t => {
      writeFileSync(apiTokenFile, 'first\n');
      const dapr = await startDapr(t, { appId: APP, to: proxy.url, apiToken: 'first', accessControl });
      const gatecar = await startGatecar(t, settings(dapr));
      const reply = await sendRequest(gatecar.auth, { token: await newToken() });
      t.equal(reply.status, 200);
      t.match(identityIn(reply.rawHeaders), { user: 'system:serviceaccount:apps:web' });
      t.strictSame(denialOf(await sendRequest(gatecar.auth, { token: 'garbage' })), rejected('invalid bearer token'));
      const reviewPath = form === 'prefix' ? `${new URL(prefix).pathname}${REVIEWS}` : REVIEWS;
      const heads = dapr.passed.map(({ method, path, headers }) => `${method} ${path} ${headers.authorization}`);
      t.strictSame(new Set(heads), new Set([`POST ${reviewPath} undefined`]), 'only reviews, without a credential');

      dapr.caller = { appId: 'gatecar', namespace: 'elsewhere' };
      await assertUnavailable(t, gatecar.auth, 'forbidden');
      dapr.caller = { appId: 'gatecar', namespace: 'gatecar' };
      dapr.apiToken = 'second';
      await assertUnavailable(t, gatecar.auth, 'unauthorized');
      writeFileSync(apiTokenFile, 'second\n');
      const token = await newToken();
      await until('the new API token is sent', async () => (await sendRequest(gatecar.auth, { token })).status === 200);
    });

    t.test(`by ${form}: if Dapr and kubectl proxy allow the JWKS, invalid tokens cost no review`, async t => {
      writeFileSync(apiTokenFile, 'first\n');
      const jwksProxy = await startKubectlProxy(t, kubeconfig, (loadYaml(keyArgs) as { args: string[] }).args);
      const dapr = await startDapr(t, { appId: APP, to: jwksProxy.url, apiToken: 'first', accessControl });
      await assertReviewsWithoutJwks(t, { api, newToken }, settings(dapr));
      dapr.accessControl = withOperations(loadYaml(keyOperations));
      await assertNoReviewsWithJwks(t, { api, newToken }, settings(dapr));
    });

    t.test(`by ${form}: an unknown application is an outage`, async t => {
      writeFileSync(apiTokenFile, 'first\n');
      const dapr = await startDapr(t, { appId: 'other.proxy-system', to: proxy.url, apiToken: 'first', accessControl });
      const gatecar = await startGatecar(t, settings(dapr), { ready: false });
      await assertUnavailable(t, gatecar.auth, 'server error');
    });
  }
});

/** Returns the example's access control with more operations allowed for gatecar. */
function withOperations(extra: AccessControl['policies'][number]['operations']): AccessControl {
  const { policies, ...rest } = accessControl as unknown as AccessControl;
  return { ...rest, policies: policies.map(policy => ({ ...policy, operations: [...policy.operations, ...extra] })) };
}
