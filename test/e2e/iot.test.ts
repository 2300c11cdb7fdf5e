import { join } from 'node:path';
import t from 'tap';
import { ask } from '../fixtures/ask.ts';
import { exampleReadme } from '../fixtures/examples.ts';
import { startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { clusterTools, demand } from './fixtures/support/helm.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { identityIn } from './fixtures/support/replies.ts';
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

t.setTimeout(startLimitMs);

t.test('devices', { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('kubectl')) }, async t => {
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
