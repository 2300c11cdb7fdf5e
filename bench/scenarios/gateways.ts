import { sendRequest } from '../../test/fixtures/send-request.ts';
import { startBareHttp } from '../baseline.ts';
import { checkRequest } from '../check-request.ts';
import { benchAuthority } from '../dev-authority.ts';
import { startGatecar, WITH_GRPC } from '../gatecar.ts';
import { envoy, nginx, type StartGateway, startApplication } from '../gateways.ts';
import { startBareHttp2 } from '../grpc.ts';
import { type Contender, report, takeTurns } from '../interleave.ts';
import { wrk } from '../load.ts';
import type { MeasuredProcess } from '../pinned-process.ts';
import type { Scenario } from '../scenario.ts';

/** Few connections: the scenario measures the time of one request, not queueing. */
const CONNECTIONS = 4;

/** The auth service that a gateway calls. */
interface Decider extends MeasuredProcess {
  readonly url: string;
}

export const gateways: Scenario = {
  name: 'gateways',
  about: 'a cached token through nginx and Envoy, configured as in the examples',
  tools: ['wrk', 'nginx', 'envoy'],
  async run(bench) {
    const authority = await benchAuthority(bench);
    const gatecar = await startGatecar(bench, { ...authority.settings, ...WITH_GRPC });
    const headers = { Authorization: `Bearer ${authority.token}` };
    const bareHttp = await startBareHttp(bench, `${gatecar.auth}/auth`, headers);
    const bareHttp2 = await startBareHttp2(bench, gatecar.grpc, checkRequest(authority.token));
    const application = await startApplication(bench);

    const compare = async (name: string, start: StartGateway, bare: Decider, ours: string) => {
      const contenders: Contender[] = [];
      for (const decider of [bare, { ...gatecar, url: ours }]) {
        const url = `${await start(bench, new URL(decider.url).host, application)}/zones`;
        const load = (seconds: number) => wrk({ url, headers, seconds, connections: CONNECTIONS });
        const refused = await sendRequest(url, { path: '/zones' });
        bench.check(
          `${name} with ${decider.name} allows a valid token`,
          (await sendRequest(url, { headers })).status === 200,
        );
        if (decider.name === gatecar.name) bench.check('and rejects a request without a token', refused.status === 401);
        contenders.push({ name: `${name}, calling ${decider.name}`, pid: decider.pid, load });
      }
      const samples = await takeTurns(bench, contenders);
      report(bench, 'p50, ms', 'p50Ms', samples, { of: 'ratio', bound: '≤', limit: 1.1 });
      report(bench, 'p99, ms', 'p99Ms', samples, { of: 'ratio', bound: '≤', limit: 1.1 });
    };
    await compare('nginx', nginx, bareHttp, gatecar.auth);
    await compare('Envoy over HTTP', envoy('envoy-http'), bareHttp, gatecar.auth);
    await compare('Envoy over gRPC', envoy('envoy-grpc'), bareHttp2, gatecar.grpc);
    bench.check('one token is one review', authority.reviews === 1);
  },
};
