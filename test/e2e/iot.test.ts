import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { exampleReadme } from '../fixtures/examples.ts';
import { sendRequest, type TestRequest } from '../fixtures/send-request.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { startApplication } from './fixtures/support/application.ts';
import { createAuthority, createServerCertificate } from './fixtures/support/certificates.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { clusterTools, demand } from './fixtures/support/helm.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';
import { identityIn } from './fixtures/support/response-matchers.ts';
import { until } from './fixtures/support/until.ts';

// Tests `examples/iot`: its manifests, and the commands of its README as written.

const MANIFESTS = join(import.meta.dirname, '../../examples/iot/devices.yaml');
const command = (pattern: RegExp) => {
  const [, words] = pattern.exec(exampleReadme('iot')) ?? [];
  if (!words) throw new Error(`the README has no ${pattern}`);
  return words.split(' ');
};
const ISSUE = command(/^kubectl (create token device-1 .*)$/m);
const REVOKE = command(/`kubectl (delete serviceaccount device-1 [^`]+)`/);
const [, TLS_LINES = ''] = /```nginx\n(.*?)```/s.exec(exampleReadme('iot')) ?? [];
const DEVICE_1 = 'system:serviceaccount:devices:device-1';

const missing = kubeApiServerMissing() ?? gatewayMissing('kubectl') ?? nginxMissing();

t.setTimeout(startLimitMs);

t.test('the IoT example', { skip: skipWithout(missing) }, async t => {
  const { api, settings } = await startCluster(t);
  const toolsFor = async (token: string) => clusterTools(t, await api.writeKubeconfig({ it: { token } }));
  const administrator = { clientCertificate: { user: 'admin', groups: ['system:masters'] } };
  const admin = clusterTools(t, await api.writeKubeconfig({ it: administrator }));
  await demand(admin, 'kubectl', ['apply', '-f', MANIFESTS]);
  const provisioner = await toolsFor(await api.requestToken('devices', 'provisioner'));
  const issue = async () => (await demand(provisioner, 'kubectl', ISSUE)).trim();
  const gatecar = await startGatecar(t, {
    ...settings,
    GATECAR_TOKEN_AUDIENCES: 'bindcar',
    GATECAR_ALLOWED_NAMESPACES: 'devices',
    GATECAR_CACHE_TTL: '0',
  });
  const first = await issue();

  t.test('an issued token passes, and so does the next one issued', async t => {
    const second = await issue();
    t.not(second, first);
    for (const token of [first, second]) {
      const reply = await sendRequest(gatecar.auth, { token });
      t.equal(reply.status, 200);
      t.match(identityIn(reply.rawHeaders), { user: 'system:serviceaccount:devices:device-1', audiences: 'bindcar' });
    }
  });

  t.test('the provisioner issues tokens for the listed devices only', async t => {
    const { status, stderr } = await provisioner('kubectl', ['create', 'token', 'provisioner', '-n', 'devices']);
    t.equal(status, 1);
    t.match(stderr, /serviceaccounts "provisioner" is forbidden/);
  });

  t.test("a device's token cannot be used at the API server, so it cannot issue tokens", async t => {
    const { status, stderr } = await (await toolsFor(first))('kubectl', ISSUE);
    t.equal(status, 1);
    t.match(stderr, /logged in|Unauthorized/);
    const both = await api.requestToken('devices', 'device-1', {
      audiences: ['bindcar', 'https://kubernetes.default.svc'],
    });
    const otherDevice = await (await toolsFor(both))('kubectl', ['create', 'token', 'device-2', '-n', 'devices']);
    t.match(
      otherDevice.stderr,
      /serviceaccounts "device-2" is forbidden/,
      'with the API server’s audience it still lacks the right',
    );
  });

  t.test('devices through nginx with TLS', async t => {
    const gateway = await startTlsGateway(t, gatecar.auth);
    const receivedUser = () => gateway.application.requests.at(-1)?.headers['x-auth-request-user'];

    t.test('a newly issued token works on the open connection of the previous one', async t => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      t.teardown(() => agent.destroy());
      for (const token of [await issue(), await issue()]) {
        const reply = await gateway.send({ token, agent });
        t.match(reply, { status: 200, body: DEVICE_1 });
        t.equal(receivedUser(), DEVICE_1);
      }
      t.equal(Object.values(agent.freeSockets).flat().length, 1);
      t.equal((await gateway.send({ token: 'garbage', agent })).status, 401);
    });

    t.test(
      'a device that verifies the certificate sends its token to no other server, and plain HTTP is rejected',
      async t => {
        const { length } = gateway.application.requests;
        const accesses = (await gateway.accesses()).length;
        await t.rejects(gateway.send({ token: first, ca: gateway.otherCa }), { code: /CERT|SIGNATURE|ISSUER/ });
        t.equal((await gateway.accesses()).length, accesses, 'no request arrived');
        t.equal((await sendRequest(gateway.url.replace('https:', 'http:'), { path: '/', token: first })).status, 400);
        t.equal(gateway.application.requests.length, length);
      },
    );

    t.test('a revoked token is rejected through nginx, and other devices continue', async t => {
      await api.createServiceAccount('devices', 'device-3');
      const revokedToken = await api.requestToken('devices', 'device-3', { audiences: ['bindcar'] });
      t.equal((await gateway.send({ token: revokedToken })).status, 200);
      await api.deleteServiceAccount('devices', 'device-3');
      await until('it is rejected', async () => (await gateway.send({ token: revokedToken })).status === 401);
      t.equal((await gateway.send({ token: first })).status, 200);
    });
  });

  t.test('a legacy Secret token passes without an audience, and so do default pod tokens', async t => {
    const legacy = await api.createLegacySecretToken('devices', 'device-2', 'device-2-legacy');
    const claims = JSON.parse(Buffer.from(legacy.split('.')[1] ?? '', 'base64url').toString());
    t.notOk('exp' in claims || 'aud' in claims, 'Kubernetes issues it without expiry and audience');
    t.equal((await sendRequest(gatecar.auth, { token: legacy })).status, 401, 'it lacks the audience');

    const withoutAudience = await startGatecar(t, { ...settings, GATECAR_TOKEN_AUDIENCES: '', GATECAR_CACHE_TTL: '0' });
    const reply = await sendRequest(withoutAudience.auth, { token: legacy });
    t.equal(reply.status, 200);
    t.match(identityIn(reply.rawHeaders), { user: DEVICE_1.replace('-1', '-2'), 'credential-id': '' });
    const podToken = await api.requestToken('devices', 'provisioner');
    t.equal(
      (await sendRequest(withoutAudience.auth, { token: podToken })).status,
      200,
      "every pod's default token then passes too",
    );
    t.equal(
      (await sendRequest(withoutAudience.auth, { token: first })).status,
      401,
      'tokens for an audience do not pass',
    );
    const { stdout } = await (await toolsFor(legacy))('kubectl', [
      'auth',
      'whoami',
      '-o',
      'jsonpath={.status.userInfo.username}',
    ]);
    t.equal(stdout, DEVICE_1.replace('-1', '-2'), 'it is valid at the API server');

    await demand(admin, 'kubectl', ['delete', 'secret', 'device-2-legacy', '--namespace', 'devices']);
    await until(
      'it is rejected',
      async () => (await sendRequest(withoutAudience.auth, { token: legacy })).status === 401,
    );
  });

  t.test('tokens of a deleted account are revoked, and a new account of that name does not revive them', async t => {
    const otherDeviceToken = (
      await demand(
        provisioner,
        'kubectl',
        ISSUE.map(word => word.replace('device-1', 'device-2')),
      )
    ).trim();
    await demand(admin, 'kubectl', REVOKE);
    await until('it is rejected', async () => (await sendRequest(gatecar.auth, { token: first })).status === 401);
    t.equal((await sendRequest(gatecar.auth, { token: otherDeviceToken })).status, 200);
    await demand(admin, 'kubectl', ['apply', '-f', MANIFESTS]);
    const newToken = await issue();
    await until(
      'the new token passes',
      async () => (await sendRequest(gatecar.auth, { token: newToken })).status === 200,
    );
    t.equal((await sendRequest(gatecar.auth, { token: first })).status, 401);
  });
});

/**
 * Runs `examples/nginx/nginx.conf` with the lines of this example's README, between gatecar and an
 * application.
 */
async function startTlsGateway(t: Test, gatecar: string) {
  const directory = tempDir(t);
  const authority = await createAuthority(join(directory, 'ca'), 'ca');
  const otherCa = await createAuthority(join(directory, 'stranger'), 'stranger');
  const { certFile, keyFile } = await createServerCertificate(join(directory, 'server'), authority);
  const application = await startApplication(t);
  let lines = replaceOnce(TLS_LINES, 'listen 443 ssl;', 'listen 8080 ssl;');
  lines = replaceOnce(lines, '/tls/tls.crt', certFile);
  lines = replaceOnce(lines, '/tls/tls.key', keyFile);
  const config = replaceOnce(await exampleConfig([gatecar], application.url), 'listen 8080;', lines);
  const { url, accesses } = await startNginx(t, config);
  const ca = readFileSync(authority.certFile, 'utf8');
  return {
    url,
    accesses,
    application,
    otherCa: readFileSync(otherCa.certFile, 'utf8'),
    send: (request: TestRequest) => sendRequest(url, { path: '/', ca, ...request }),
  };
}
