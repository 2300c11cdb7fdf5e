import { ask } from '../../test/fixtures/ask.ts';
import { startBareHttp } from '../baseline.ts';
import { checkRequest } from '../check-request.ts';
import { benchAuthority } from '../dev-authority.ts';
import { startGatecar, WITH_GRPC } from '../gatecar.ts';
import { envoy, nginx, type StartGateway, startApplication } from '../gateways.ts';
import { startBareHttp2 } from '../grpc.ts';
import { type Contender, takeTurns, tell } from '../interleave.ts';
import { wrk } from '../load.ts';
import type { MeasuredProcess } from '../pinned-process.ts';
import type { Scenario } from '../scenario.ts';

/** Few connections: the scenario measures the time of one request, not queueing. */
const CONNECTIONS = 4;

/** The auth service that a gateway asks. */
interface Decider extends MeasuredProcess {
  readonly url: string;
}

export const gateways: Scenario = {
  name: 'gateways',
  about: 'a known token through nginx and Envoy with the configurations of the examples',
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
        const refused = await ask(url, { path: '/zones' });
        bench.check(
          `${name} before ${decider.name} lets a token through`,
          (await ask(url, { headers })).status === 200,
        );
        if (decider.name === gatecar.name) bench.check('and nobody without one', refused.status === 401);
        contenders.push({ name: `${name}, asking ${decider.name}`, pid: decider.pid, load });
      }
      const samples = await takeTurns(bench, contenders);
      tell(bench, 'p50, ms', 'p50Ms', samples, { of: 'ratio', bound: '≤', limit: 1.1 });
      tell(bench, 'p99, ms', 'p99Ms', samples, { of: 'ratio', bound: '≤', limit: 1.1 });
    };
    await compare('nginx', nginx, bareHttp, gatecar.auth);
    await compare('Envoy over HTTP', envoy('envoy-http'), bareHttp, gatecar.auth);
    await compare('Envoy over gRPC', envoy('envoy-grpc'), bareHttp2, gatecar.grpc);
    bench.check('one token is one review', authority.reviews === 1);
  },
};
