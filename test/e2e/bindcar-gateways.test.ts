import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { at, exampleDocuments, exampleReadme, IDENTITY_NAMES, sortedNames, type Yaml } from '../fixtures/examples.ts';
import { sendRequest, type TestRequest } from '../fixtures/send-request.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { assertNotReceived } from './fixtures/support/application.ts';
import { OPEN_PATHS, startBindcar } from './fixtures/support/bindcar.ts';
import { type CertificateFiles, createAuthority, createServerCertificate } from './fixtures/support/certificates.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { envoyExample, startEnvoyAt } from './fixtures/support/envoy.ts';
import { identityOf } from './fixtures/support/forged-identity.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { clusterTools, containerOf, environmentOf, podOf, render } from './fixtures/support/helm.ts';
import { ingressNginxConfig } from './fixtures/support/ingress-nginx.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';
import { serviceAccountIdentity } from './fixtures/support/response-matchers.ts';

// Tests the gateways of `examples/bindcar`: real gatecar with the settings of its values, and real
// Envoy with its configuration. nginx runs what ingress-nginx generates from its Ingress. Behind
// them is a stand-in for bindcar.

const values = exampleDocuments('bindcar', 'values.yaml')[0] as Yaml;
const ingress = exampleDocuments('bindcar', 'ingress.yaml')[0] as Yaml;
const job = exampleDocuments('bindcar', 'client.yaml').find(({ kind }) => kind === 'Job') as Yaml;
const client = at(job, 'spec.template.spec.containers[0]') as Yaml;
const envoy = await envoyExample('bindcar/envoy');
const [, account = ''] =
  /^system:serviceaccount:(.*)$/.exec(String(at(values, 'config.allowedServiceAccounts[0]'))) ?? [];
const [namespace = '', name = ''] = account.split(':');

const AUTH_HEADERS = 'nginx.ingress.kubernetes.io/auth-response-headers';
const ANNOTATIONS = at(ingress, 'metadata.annotations') as Readonly<Record<string, string>>;

/** Addresses, `host:port`, and the server's certificate. */
interface Addresses {
  readonly gatecar: string;
  readonly bindcar: string;
  readonly tls: CertificateFiles;
}

/**
 * Starts the gateway as in the example. With `removesToken` it removes the token, as the example
 * describes. Returns its URL.
 */
type Start = (t: Test, addresses: Addresses, removesToken?: boolean) => Promise<{ readonly url: string }>;

const GATEWAYS: Readonly<Record<string, { readonly start: Start; readonly downStatus: number }>> = {
  'ingress-nginx': {
    async start(t, { gatecar, bindcar, tls }, removesToken = false) {
      const names = `${ANNOTATIONS[AUTH_HEADERS]}${removesToken ? ',Authorization' : ''}`;
      const annotations = { ...ANNOTATIONS, [AUTH_HEADERS]: names };
      return await startNginx(
        t,
        ingressNginxConfig({ ...ingress, metadata: { annotations } }, { gatecar, service: bindcar }, tls),
      );
    },
    downStatus: 500,
  },
  Envoy: {
    async start(t, { gatecar, bindcar, tls }, removesToken = false) {
      const line = 'request_headers_to_remove: [authorization]';
      let config = replaceOnce(envoy, '/tls/tls.crt', tls.certFile);
      config = replaceOnce(config, '/tls/tls.key', tls.keyFile);
      if (removesToken) config = replaceOnce(config, `# ${line}`, line);
      return await startEnvoyAt(t, config, '0.0.0.0:8443', {
        'gatecar.gatecar.svc.cluster.local:9080': gatecar,
        'bindcar.dns-system.svc.cluster.local:8080': bindcar,
      });
    },
    downStatus: 503,
  },
};

const missing =
  kubeApiServerMissing() ??
  nginxMissing() ??
  gatewayMissing('envoy') ??
  gatewayMissing('helm') ??
  gatewayMissing('curl');

t.setTimeout(startLimitMs);

t.test('both gateways replace every identity header with that of gatecar', async t => {
  t.strictSame(sortedNames(ANNOTATIONS[AUTH_HEADERS]), IDENTITY_NAMES);
  t.match(ANNOTATIONS, { 'nginx.ingress.kubernetes.io/auth-method': 'GET' });
  t.match(envoy, /remove_on_match:\n\s+key_matcher: \{ prefix: x-auth-request-, ignore_case: true \}/);
  t.match(envoy, /failure_mode_allow: false/);
});

t.test('bindcar behind gatecar is reached by allowed accounts only', { skip: skipWithout(missing) }, async t => {
  const { api, settings } = await startCluster(t);
  const { uid } = await api.createServiceAccount(namespace, name);
  await api.createServiceAccount(namespace, 'other');
  const audiences = ['bindcar'];
  const token = await api.requestToken(namespace, name, { audiences });
  const rejectedRequests: Readonly<Record<string, TestRequest>> = {
    'no token': {},
    garbage: { token: 'garbage' },
    'a token for another audience': { token: await api.requestToken(namespace, name, { audiences: ['elsewhere'] }) },
    'a token for the API server': { token: await api.requestToken(namespace, name) },
    'a token of another account': { token: await api.requestToken(namespace, 'other', { audiences }) },
  };

  const rendered = await render(clusterTools(t), values);
  const environment = environmentOf(containerOf(podOf(rendered)), rendered);
  const policy = Object.fromEntries(Object.entries(environment).filter(([key]) => /_(AUDIENCES|ALLOWED_)/.test(key)));
  t.strictSame(Object.keys(policy).sort(), ['GATECAR_ALLOWED_SERVICE_ACCOUNTS', 'GATECAR_TOKEN_AUDIENCES']);
  const directory = tempDir(t);
  const authority = await createAuthority(join(directory, 'ca'), 'ca');
  const ca = readFileSync(authority.certFile, 'utf8');
  const tls = await createServerCertificate(join(directory, 'server'), authority);

  for (const [gateway, { start, downStatus }] of Object.entries(GATEWAYS)) {
    t.test(`${gateway} in front of bindcar`, async t => {
      const bindcar = await startBindcar(t);
      const gatecar = await startGatecar(t, { ...settings, ...policy });
      const addresses = { gatecar: new URL(gatecar.auth).host, bindcar: new URL(bindcar.url).host, tls };
      const { url } = await start(t, addresses);
      const send = async (request: TestRequest) =>
        (await sendRequest(url, { path: '/api/v1/zones', ca, ...request })).status;

      t.test(
        'an account that may write zones reads and writes, and bindcar receives its token and identity',
        async t => {
          t.equal(await send({ token }), 200);
          const body = JSON.stringify({ zoneName: 'example.com' });
          t.equal(await send({ method: 'POST', token, body, headers: { 'content-type': 'application/json' } }), 200);
          t.equal(await send({ method: 'DELETE', path: '/api/v1/zones/example.com', token }), 200);
          const [read, write] = bindcar.requests;
          t.match(read, { method: 'GET', url: '/api/v1/zones', headers: { authorization: `Bearer ${token}` } });
          t.strictSame(identityOf(read), serviceAccountIdentity(namespace, name, uid, token));
          t.match(write, { method: 'POST', body });
        },
      );

      t.test('a rejected request reaches bindcar on none of its paths', async t => {
        await assertNotReceived(t, bindcar, async () => {
          for (const [name, request] of Object.entries(rejectedRequests)) {
            for (const path of ['/api/v1/zones', '/api/v1/health', '/api/v1/ready']) {
              t.equal(await send({ ...request, path }), 401, `${name}: ${path}`);
            }
          }
        });
        t.equal(
          await send({ path: '/api/v1/health', token }),
          200,
          'paths that bindcar serves without a token require one at the gateway',
        );
      });

      t.test('/metrics is not reachable through the gateway', async t => {
        await assertNotReceived(t, bindcar, async () => {
          t.equal(await send({ path: '/metrics', token }), 404);
          t.ok([401, 404].includes(await send({ path: '/metrics' })));
          for (const path of ['/', '/api', '/api/v10/zones', '/api/v1x', '/api/v1/../../metrics']) {
            t.equal(await send({ path, token }), 404, path);
          }
        });
      });

      t.test('identity headers of the client do not reach bindcar', async t => {
        const headers = Object.fromEntries(IDENTITY_NAMES.map(header => [header, 'forged']));
        t.equal(await send({ token, headers }), 200);
        t.strictSame(identityOf(bindcar.requests.at(-1)), serviceAccountIdentity(namespace, name, uid, token));
      });

      t.test('the Job of the example lists the zones, and fails with curl’s exit code if it is denied', async t => {
        const run = (bearer: string) => runClient(t, { url, token: bearer, caFile: authority.certFile });
        t.strictSame(await run(token), { status: 0, stdout: '{"zones":[],"count":0}' });
        t.equal(bindcar.requests.at(-1)?.headers.authorization, `Bearer ${token}`);
        t.match(await run('garbage'), { status: 22 }, 'exit code of curl for a status of 400 or more');
        const otherCa = await createAuthority(join(directory, 'stranger'), 'stranger');
        const untrusted = await runClient(t, { url, token, caFile: otherCa.certFile });
        t.match(untrusted, { status: 60 }, 'exit code of curl for an untrusted certificate');
      });

      t.test('with DISABLE_AUTH the gateway removes the token after gatecar has authenticated it', async t => {
        const closed = await start(t, addresses, true);
        bindcar.authDisabled = true;
        t.teardown(() => {
          bindcar.authDisabled = false;
        });
        t.equal((await sendRequest(closed.url, { path: '/api/v1/zones', ca, token })).status, 200);
        const received = bindcar.requests.at(-1);
        t.equal(received?.headers.authorization, undefined);
        t.notMatch(received?.rawHeaders.join('\n'), token);
        t.strictSame(identityOf(received), serviceAccountIdentity(namespace, name, uid, token));
        await assertNotReceived(t, bindcar, async () => {
          for (const request of Object.values(rejectedRequests)) {
            t.equal((await sendRequest(closed.url, { path: '/api/v1/zones', ca, ...request })).status, 401);
          }
        });
      });

      t.test('without gatecar every request fails', async t => {
        gatecar.signal('SIGKILL');
        await gatecar.end();
        await assertNotReceived(t, bindcar, async () => {
          for (const request of [{ token }, {}]) t.equal(await send(request), downStatus);
        });
      });
    });
  }

  t.test(
    'without the gateway, basic mode accepts any token, so the NetworkPolicy must block direct access',
    async t => {
      const bindcar = await startBindcar(t);
      const direct = async (request: TestRequest) =>
        (await sendRequest(bindcar.url, { path: '/api/v1/zones', ...request })).status;
      t.strictSame([await direct({ token: 'anything' }), await direct({})], [200, 401]);
      for (const path of OPEN_PATHS) {
        t.equal(await direct({ path }), 200, path);
        t.ok(exampleReadme('bindcar').includes(`\`${path}\``), 'the README lists it');
      }
    },
  );
});

/**
 * Runs the command of the Job's container, with the token and CA file that the kubelet would
 * mount.
 */
function runClient(t: Test, { url, token, caFile }: { url: string; token: string; caFile: string }) {
  const tokenFile = join(tempDir(t), 'token');
  writeFileSync(tokenFile, token);
  const [program = '', ...args] = [client['command'], client['args']].flat() as string[];
  const env = { BINDCAR_URL: url, TOKEN_FILE: tokenFile, CURL_CA_BUNDLE: caFile, PATH: process.env['PATH'] };
  t.strictSame(Object.keys(env).sort(), [...Object.keys(environmentOf(client, [])), 'PATH'].sort());
  return new Promise<{ status: number; stdout: string }>(resolve => {
    execFile(program, args, { env }, (error, stdout) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout });
    });
  });
}
