import { Agent } from 'node:http';
import t from 'tap';
import { sendRequest } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { reviewsDuring, startCluster } from './fixtures/support/cluster.ts';
import { envoyExample, startEnvoy } from './fixtures/support/envoy.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { listening, newNeighbours } from './fixtures/support/gateway-suite.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';

// Clients have their own addresses, from 127.0.0.2. The gateways connect from 127.0.0.1.

const FAILURES = 5;
const skip = skipWithout(kubeApiServerMissing() ?? nginxMissing() ?? gatewayMissing('envoy'));

t.setTimeout(startLimitMs);

t.test(
  'a client that guesses tokens through a gateway soon costs no review, and affects no other client',
  { skip },
  async t => {
    const { api, settings } = await startCluster(t);
    await api.createServiceAccount('apps', 'web');
    const newToken = () => api.requestToken('apps', 'web', { audiences: ['bindcar'] });
    const application = await startApplication(t);
    const neighbours = await newNeighbours(application);
    const gatecar = await startGatecar(t, {
      ...settings,
      ...listening(neighbours),
      GATECAR_TRUSTED_PROXIES: '127.0.0.1',
      GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
      GATECAR_CLIENT_FAILURE_LIMIT: `${FAILURES}/60m`,
    });
    const nginx = await startNginx(t, await exampleConfig([gatecar.auth], application.url));
    const envoy = await startEnvoy(t, await envoyExample('envoy-grpc'), neighbours);

    for (const { name, url, guesser, neighbour } of [
      { name: 'nginx', url: nginx.url, guesser: '127.0.0.2', neighbour: '127.0.0.3' },
      { name: 'Envoy over gRPC', url: envoy.url, guesser: '127.0.0.4', neighbour: '127.0.0.5' },
    ]) {
      t.test(`${name}: the failure limit applies per client`, async t => {
        const agents = new Map<string, Agent>();
        t.teardown(() => {
          for (const agent of agents.values()) agent.destroy();
        });
        const from = async (address: string, token: string, headers: Record<string, string> = {}) => {
          const agent = agents.get(address) ?? new Agent({ localAddress: address, keepAlive: true });
          agents.set(address, agent);
          return (await sendRequest(url, { token, headers, agent })).status;
        };
        let guesses = 0;
        const cachedToken = await newToken();
        t.equal(await from(guesser, cachedToken), 200);
        const sendGuesses = async (count: number, headers?: (nth: number) => Record<string, string>) => {
          for (let nth = 0; nth < count; nth++) {
            t.equal(await from(guesser, `guess-${guesser}-${guesses++}`, headers?.(nth)), 401);
          }
        };
        t.equal(await reviewsDuring(api, () => sendGuesses(FAILURES)), FAILURES);
        const forgedAddress = (nth: number) => ({ 'X-Real-IP': `192.0.2.${nth}`, 'X-Forwarded-For': `192.0.2.${nth}` });
        const guessMore = async () => {
          await sendGuesses(10);
          await sendGuesses(10, forgedAddress);
        };
        t.equal(await reviewsDuring(api, guessMore), 0);
        t.equal(await from(guesser, cachedToken), 200, 'cached tokens pass');
        t.equal(await from(guesser, await newToken()), 401, 'new tokens do not pass, valid or not');
        t.equal(await from(neighbour, await newToken()), 200, 'new tokens from other addresses pass');
      });
    }
  },
);
