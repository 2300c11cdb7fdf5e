import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { sendRequest } from '../fixtures/send-request.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { type GatecarProcess, startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { type Nginx, nginxMissing, startNginx } from './fixtures/support/nginx.ts';
import { until } from './fixtures/support/until.ts';

// Tests every way in which gatecar can get the API server's address and its own credential.

const audiences = ['bindcar'];

t.setTimeout(startLimitMs);

t.test(
  'gatecar connects to the API server in every configured way',
  { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) },
  async t => {
    const { api, tokenFile, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const token = await api.requestToken('apps', 'web', { audiences });
    const ownToken = await readFile(tokenFile, 'utf8');

    const { hostname, port } = new URL(api.url);
    const podEnvironment = { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port };

    /** Starts gatecar, and asserts that reviews work. */
    async function reviews(t: Test, settings: Record<string, string>): Promise<GatecarProcess> {
      const gatecar = await startGatecar(t, settings);
      t.match(await sendRequest(gatecar.auth, { token }), {
        status: 200,
        headers: { 'x-auth-request-user': 'system:serviceaccount:apps:web' },
      });
      t.equal((await sendRequest(gatecar.auth, { token: 'garbage' })).status, 401);
      return gatecar;
    }

    t.test('gatecar connects with an address, token file and CA file, under either name of the settings', async t => {
      const older = { KUBE_API_SERVER: api.url, KUBE_TOKEN_PATH: tokenFile, KUBE_CA_CERT_PATH: api.caFile };
      await Promise.all([reviews(t, settings), reviews(t, older)]);
    });

    t.test("gatecar connects with a pod's environment and files", async t => {
      await reviews(t, {
        ...podEnvironment,
        GATECAR_KUBE_TOKEN_FILE: tokenFile,
        GATECAR_KUBE_CA_FILE: api.caFile,
      });
    });

    t.test(
      'gatecar connects with a kubeconfig in the chosen context, whatever the authentication of its user',
      async t => {
        await api.apply({
          apiVersion: 'rbac.authorization.k8s.io/v1',
          kind: 'ClusterRoleBinding',
          metadata: { name: 'certified-tokenreview' },
          roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'gatecar-tokenreview' },
          subjects: [{ kind: 'User', name: 'certified', apiGroup: 'rbac.authorization.k8s.io' }],
        });
        const certified = { user: 'certified' };
        const file = await api.writeKubeconfig({
          'current, and not permitted': { clientCertificate: { user: 'stranger' } },
          token: { token: ownToken },
          tokenFile: { tokenFile },
          'inline certificate': { clientCertificate: certified },
          'certificate files': { clientCertificate: { ...certified, inline: false } },
        });
        const contexts = ['token', 'tokenFile', 'inline certificate', 'certificate files'];
        await Promise.all(contexts.map(context => reviews(t, { KUBECONFIG: file, GATECAR_KUBE_CONTEXT: context })));
        const unknownContext = await startGatecar(
          t,
          { GATECAR_KUBECONFIG: file, GATECAR_KUBE_CONTEXT: 'x' },
          { ready: false },
        );
        t.equal(await unknownContext.reports(/^\[-\]first-review failed: kubeconfig: there is no context "x"/m), 503);
      },
    );

    t.test('gatecar connects with the default kubeconfig if nothing else is set', async t => {
      const HOME = join(api.directory, 'home');
      await mkdir(join(HOME, '.kube'), { recursive: true });
      await api.writeKubeconfig({ token: { token: ownToken } }, join(HOME, '.kube/config'));
      await reviews(t, { HOME });
    });

    t.test('an exec plugin runs once for many reviews, and again after its credential is rejected', async t => {
      // The plugin is a shell script, which needs a PATH.
      const { PATH = '' } = process.env;
      const pluginToken = join(api.directory, 'plugin-token');
      await writeFile(pluginToken, 'garbage');
      const file = await api.writeKubeconfig({ plugin: { execPlugin: { tokenFile: pluginToken } } });
      const [{ user }] = JSON.parse(await readFile(file, 'utf8')).users;
      const calls = async () => (await readFile(`${user.exec.command}.calls`, 'utf8')).trim().split('\n').length;
      const gatecar = await startGatecar(
        t,
        { GATECAR_KUBECONFIG: file, PATH, GATECAR_CACHE_TTL: '0' },
        { ready: false },
      );
      t.equal(await gatecar.reports(/^\[-\]first-review failed: unauthorized \(HTTP 401\)/m), 503);
      await writeFile(pluginToken, ownToken);
      await gatecar.ready();
      const before = await calls();
      for (let round = 0; round < 20; round += 1) t.equal((await sendRequest(gatecar.auth, { token })).status, 200);
      t.ok((await calls()) - before <= 1, 'the plugin does not run for each review');
    });

    t.test('gatecar connects through proxies', async t => {
      const proxy = await startNginx(t, proxyConfig(api.url, api.caFile, ownToken));

      t.test('a plain HTTP proxy with a path prefix gets gatecar’s credential if its file is set', async t => {
        const before = (await proxy.accesses()).length;
        await reviews(t, { GATECAR_KUBE_API_URL: `${proxy.url}/clusters/one/`, GATECAR_KUBE_TOKEN_FILE: tokenFile });
        t.strictSame(
          new Set((await proxy.accesses()).slice(before)),
          new Set([
            `200 GET /clusters/one/.well-known/openid-configuration Bearer ${ownToken}`,
            `200 GET /clusters/one/openid/v1/jwks Bearer ${ownToken}`,
            `201 POST /clusters/one/apis/authentication.k8s.io/v1/tokenreviews Bearer ${ownToken}`,
          ]),
        );
      });

      t.test('a proxy with its own credential receives neither gatecar’s credential nor a client’s', async t => {
        const before = (await proxy.accesses()).length;
        await reviews(t, {
          GATECAR_KUBE_API_URL: `${proxy.url}/with-credential`,
          GATECAR_KUBE_HEADERS: 'dapr-app-id=kube-proxy.proxy-system',
          // In a pod: gatecar's own credential would replace the proxy's, and must not be sent.
          ...podEnvironment,
        });
        t.strictSame(
          new Set((await proxy.accesses()).slice(before)),
          new Set([
            '200 GET /with-credential/.well-known/openid-configuration -',
            '200 GET /with-credential/openid/v1/jwks -',
            '201 POST /with-credential/apis/authentication.k8s.io/v1/tokenreviews -',
          ]),
        );
      });

      t.test('a token file that the kubelet swaps under load is re-read, and no request fails', async t => {
        await rotatesUnderLoad(t, proxy);
      });
    });

    async function rotatesUnderLoad(t: Test, proxy: Nginx): Promise<void> {
      const directory = join(api.directory, 'projected');
      await mkdir(directory);
      await symlink('..data/token', join(directory, 'token'));
      const project = async (round: number): Promise<string> => {
        const content = await api.requestToken('gatecar', 'gatecar');
        await mkdir(join(directory, `..${round}`));
        await writeFile(join(directory, `..${round}`, 'token'), content);
        await symlink(`..${round}`, join(directory, '..data_tmp'));
        await rename(join(directory, '..data_tmp'), join(directory, '..data'));
        await rm(join(directory, `..${round - 1}`), { recursive: true, force: true });
        return content;
      };
      const isUsed = (content: string) =>
        until('the new token is used', async () => (await proxy.accesses()).at(-1)?.endsWith(` Bearer ${content}`));

      const first = await project(0);
      const gatecar = await startGatecar(t, {
        GATECAR_KUBE_API_URL: `${proxy.url}/clusters/one`,
        GATECAR_KUBE_TOKEN_FILE: join(directory, 'token'),
        GATECAR_CACHE_TTL: '0',
      });
      const statuses = new Map<number, number>();
      let done = false;
      const client = async () => {
        while (!done) {
          const { status } = await sendRequest(gatecar.auth, { token });
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
        }
      };
      const clients = [client(), client(), client(), client()];
      await isUsed(first);
      for (const round of [1, 2, 3]) await isUsed(await project(round));
      done = true;
      await Promise.all(clients);
      t.strictSame([...statuses.keys()], [200]);
      t.ok((statuses.get(200) ?? 0) > 100, `${statuses.get(200)} requests`);
    }
  },
);

/**
 * An nginx before the API server: unchanged below `/clusters/one/`, and with a credential below
 * `/with-credential/`.
 */
function proxyConfig(apiServer: string, caFile: string, token: string): string {
  return `
    events {}
    http {
      upstream apiserver { server ${new URL(apiServer).host}; keepalive 8; }
      proxy_ssl_trusted_certificate ${caFile};
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
      proxy_http_version 1.1;
      server {
        listen 8080;
        location /clusters/one/ {
          proxy_set_header Connection "";
          proxy_pass https://apiserver/;
        }
        location /with-credential/ {
          if ($http_dapr_app_id != kube-proxy.proxy-system) { return 403; }
          proxy_set_header Connection "";
          proxy_set_header Authorization "Bearer ${token}";
          proxy_pass https://apiserver/;
        }
      }
    }`;
}
