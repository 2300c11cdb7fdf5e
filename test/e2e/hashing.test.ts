import t from 'tap';
import { ask } from '../fixtures/ask.ts';
import { startApplication } from './fixtures/support/application.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';

// docs/operations.md, "Sizing": what it saves to send each token to the same replica.

/** An odd number: taking turns, nginx sends each to the one replica and to the other. */
const TOKENS = 25;

t.setTimeout(startLimitMs);

t.test('two replicas behind nginx', { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) }, async t => {
  const { api, settings } = await startCluster(t);
  await api.createServiceAccount('apps', 'web');
  const application = await startApplication(t);
  const tokens = await Promise.all(
    Array.from({ length: TOKENS }, () => api.requestToken('apps', 'web', { audiences: ['bindcar'] })),
  );

  /** Reviews for ten requests with each of the tokens, through two new replicas. */
  const reviews = async (change: (config: string) => string): Promise<number> => {
    const replicas = [await startGatecar(t, settings), await startGatecar(t, settings)];
    const addresses = replicas.map(({ auth }) => auth);
    const nginx = await startNginx(t, change(await exampleConfig(addresses, application.url)));
    return reviewsDuring(api, async () => {
      for (let turn = 0; turn < 10; turn += 1) {
        for (const token of tokens) t.equal((await ask(nginx.url, { token })).status, 200);
      }
    });
  };

  t.test('each reviews each token, unless nginx hashes it', async t => {
    const settled = 'keepalive 32;';
    t.equal(
      await reviews(config => replaceOnce(config, settled, `hash $http_authorization consistent; ${settled}`)),
      TOKENS,
    );
    t.equal(await reviews(config => config), 2 * TOKENS);
  });
});
