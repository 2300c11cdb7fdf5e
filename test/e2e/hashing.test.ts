import t from 'tap';
import { sendRequest } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';

// docs/operations.md, "Sizing": how many reviews it saves to send each token to the same replica.

/** An odd number: with round robin, nginx sends each token to both replicas. */
const TOKENS = 25;

t.setTimeout(startLimitMs);

t.test(
  'two replicas behind nginx review each token twice, or once with hashing',
  { skip: skipWithout(kubeApiServerMissing() ?? nginxMissing()) },
  async t => {
    const { api, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const application = await startApplication(t);
    const tokens = await Promise.all(
      Array.from({ length: TOKENS }, () => api.requestToken('apps', 'web', { audiences: ['bindcar'] })),
    );

    /** Returns the reviews for ten requests with each token, through two new replicas. */
    const reviews = async (change: (config: string) => string): Promise<number> => {
      const replicas = [await startGatecar(t, settings), await startGatecar(t, settings)];
      const addresses = replicas.map(({ auth }) => auth);
      const nginx = await startNginx(t, change(await exampleConfig(addresses, application.url)));
      return reviewsDuring(api, async () => {
        for (let round = 0; round < 10; round += 1) {
          for (const token of tokens) t.equal((await sendRequest(nginx.url, { token })).status, 200);
        }
      });
    };

    t.test('each replica reviews each token, unless nginx hashes the tokens', async t => {
      const keepalive = 'keepalive 32;';
      t.equal(
        await reviews(config => replaceOnce(config, keepalive, `hash $http_authorization consistent; ${keepalive}`)),
        TOKENS,
      );
      t.equal(await reviews(config => config), 2 * TOKENS);
    });
  },
);
