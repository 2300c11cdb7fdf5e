import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ask, type Question } from '../fixtures/ask.ts';
import { exampleReadme } from '../fixtures/examples.ts';
import { scratch } from '../fixtures/temp-dir.ts';
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

// `examples/iot`: its manifests, and the commands of its README as they are written.

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

t.test('devices', { skip: skipWithout(missing) }, async t => {
  const { api, settings } = await startCluster(t);
  const as = async (token: string) => clusterTools(t, await api.writeKubeconfig({ it: { token } }));
  const administrator = { clientCertificate: { user: 'admin', groups: ['system:masters'] } };
  const admin = clusterTools(t, await api.writeKubeconfig({ it: administrator }));
  await demand(admin, 'kubectl', ['apply', '-f', MANIFESTS]);
  const provisioner = await as(await api.requestToken('devices', 'provisioner'));
  const issue = async () => (await demand(provisioner, 'kubectl', ISSUE)).trim();
  const gatecar = await startGatecar(t, {
    ...settings,
    GATECAR_TOKEN_AUDIENCES: 'bindcar',
    GATECAR_ALLOWED_NAMESPACES: 'devices',
    GATECAR_CACHE_TTL: '0',
  });
  const first = await issue();

  t.test('an issued token passes, and so does a renewed one', async t => {
    const renewed = await issue();
    t.not(renewed, first);
    for (const token of [first, renewed]) {
      const reply = await ask(gatecar.auth, { token });
      t.equal(reply.status, 200);
      t.match(identityIn(reply.rawHeaders), { user: 'system:serviceaccount:devices:device-1', audiences: 'bindcar' });
    }
  });

  t.test('the provisioner issues for the devices that are named, and for nobody else', async t => {
    const { status, stderr } = await provisioner('kubectl', ['create', 'token', 'provisioner', '-n', 'devices']);
    t.equal(status, 1);
    t.match(stderr, /serviceaccounts "provisioner" is forbidden/);
  });

  t.test("a device's token is no login to the API server, so it can issue none", async t => {
    const { status, stderr } = await (await as(first))('kubectl', ISSUE);
    t.equal(status, 1);
    t.match(stderr, /logged in|Unauthorized/);
    const both = await api.requestToken('devices', 'device-1', {
      audiences: ['bindcar', 'https://kubernetes.default.svc'],
    });
    const other = await (await as(both))('kubectl', ['create', 'token', 'device-2', '-n', 'devices']);
    t.match(other.stderr, /serviceaccounts "device-2" is forbidden/, 'nor with the audience: it has no right');
  });

  t.test('through nginx with TLS', async t => {
    const gateway = await startTlsGateway(t, gatecar.auth);
    const told = () => gateway.application.requests.at(-1)?.headers['x-auth-request-user'];

    t.test('a renewed token goes on over the connection of the one before', async t => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      t.teardown(() => agent.destroy());
      for (const token of [await issue(), await issue()]) {
        const reply = await gateway.ask({ token, agent });
        t.match(reply, { status: 200, body: DEVICE_1 });
        t.equal(told(), DEVICE_1);
      }
      t.equal(Object.values(agent.freeSockets).flat().length, 1);
      t.equal((await gateway.ask({ token: 'garbage', agent })).status, 401);
    });

    t.test('a device that verifies sends its token to nobody else; plain HTTP is refused', async t => {
      const { length } = gateway.application.requests;
      const accesses = (await gateway.accesses()).length;
      await t.rejects(gateway.ask({ token: first, ca: gateway.strangersCa }), { code: /CERT|SIGNATURE|ISSUER/ });
      t.equal((await gateway.accesses()).length, accesses, 'no request came');
      t.equal((await ask(gateway.url.replace('https:', 'http:'), { path: '/', token: first })).status, 400);
      t.equal(gateway.application.requests.length, length);
    });

    t.test('what is revoked is revoked there too, and the others go on', async t => {
      await api.createServiceAccount('devices', 'device-3');
      const lost = await api.requestToken('devices', 'device-3', { audiences: ['bindcar'] });
      t.equal((await gateway.ask({ token: lost })).status, 200);
      await api.deleteServiceAccount('devices', 'device-3');
      await until('it is refused', async () => (await gateway.ask({ token: lost })).status === 401);
      t.equal((await gateway.ask({ token: first })).status, 200);
    });
  });

  t.test('what a legacy Secret token costs', async t => {
    const legacy = await api.createLegacySecretToken('devices', 'device-2', 'device-2-legacy');
    const claims = JSON.parse(Buffer.from(legacy.split('.')[1] ?? '', 'base64url').toString());
    t.notOk('exp' in claims || 'aud' in claims, 'as Kubernetes makes them: no end and no audience');
    t.equal((await ask(gatecar.auth, { token: legacy })).status, 401, 'it has not the audience');

    const open = await startGatecar(t, { ...settings, GATECAR_TOKEN_AUDIENCES: '', GATECAR_CACHE_TTL: '0' });
    const reply = await ask(open.auth, { token: legacy });
    t.equal(reply.status, 200);
    t.match(identityIn(reply.rawHeaders), { user: DEVICE_1.replace('-1', '-2'), 'credential-id': '' });
    const podsOwn = await api.requestToken('devices', 'provisioner');
    t.equal((await ask(open.auth, { token: podsOwn })).status, 200, "then every pod's default token passes too");
    t.equal((await ask(open.auth, { token: first })).status, 401, 'and those for an audience do not');
    const { stdout } = await (await as(legacy))('kubectl', [
      'auth',
      'whoami',
      '-o',
      'jsonpath={.status.userInfo.username}',
    ]);
    t.equal(stdout, DEVICE_1.replace('-1', '-2'), 'it is a login to the API server');

    await demand(admin, 'kubectl', ['delete', 'secret', 'device-2-legacy', '--namespace', 'devices']);
    await until('it is refused', async () => (await ask(open.auth, { token: legacy })).status === 401);
  });

  t.test('a deleted account is revoked, and one of the same name does not revive its tokens', async t => {
    const kept = (
      await demand(
        provisioner,
        'kubectl',
        ISSUE.map(word => word.replace('device-1', 'device-2')),
      )
    ).trim();
    await demand(admin, 'kubectl', REVOKE);
    await until('it is refused', async () => (await ask(gatecar.auth, { token: first })).status === 401);
    t.equal((await ask(gatecar.auth, { token: kept })).status, 200);
    await demand(admin, 'kubectl', ['apply', '-f', MANIFESTS]);
    const fresh = await issue();
    await until('the new one passes', async () => (await ask(gatecar.auth, { token: fresh })).status === 200);
    t.equal((await ask(gatecar.auth, { token: first })).status, 401);
  });
});

/** `examples/nginx/nginx.conf` with the lines of this example's README, between gatecar and an application. */
async function startTlsGateway(t: Test, gatecar: string) {
  const directory = scratch(t);
  const authority = await createAuthority(join(directory, 'ca'), 'ca');
  const stranger = await createAuthority(join(directory, 'stranger'), 'stranger');
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
    strangersCa: readFileSync(stranger.certFile, 'utf8'),
    ask: (question: Question) => ask(url, { path: '/', ca, ...question }),
  };
}
