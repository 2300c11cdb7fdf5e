import { CHECK, checkRequest } from '../check-request.ts';
import { startBareHttp2, startGatecarWithGrpc } from '../grpc.ts';
import { report, takeTurns } from '../interleave.ts';
import { h2load } from '../load.ts';
import type { Scenario } from '../scenario.ts';

export const cachedGrpc: Scenario = {
  name: 'cached-grpc',
  about: "decisions on a cached token over Envoy's gRPC protocol",
  tools: ['h2load'],
  async run(bench) {
    const { authority, gatecar, bodyFile } = await startGatecarWithGrpc(bench);
    const bare = await startBareHttp2(bench, gatecar.grpc, checkRequest(authority.token));
    const asked = [bare, { ...gatecar, url: gatecar.grpc }];
    const samples = await takeTurns(
      bench,
      asked.map(({ name, pid, url }) => {
        const load = (seconds: number) =>
          h2load({ url: `${url}${CHECK.path}`, headers: CHECK.headers, bodyFile, seconds });
        return { name, pid, load };
      }),
    );
    report(bench, 'decisions/s', 'perSecond', samples, { of: 'ratio', bound: '≥', limit: 0.6 });
    report(bench, 'p99, ms', 'p99Ms', samples);
    report(bench, 'core time, µs', 'cpuUs', samples);
    bench.check('one token is one review', authority.reviews === 1);
    const allowed = await gatecar.metric('gatecar_requests_total{protocol="grpc",decision="allow",reason=""}');
    bench.check('each response is a decision', allowed > (samples[1]?.requests ?? Number.NaN));
  },
};
