import { startBareHttp } from '../baseline.ts';
import { benchAuthority } from '../dev-authority.ts';
import { startGatecar } from '../gatecar.ts';
import { report, takeTurns } from '../interleave.ts';
import { wrk } from '../load.ts';
import type { Scenario } from '../scenario.ts';

export const cachedHttp: Scenario = {
  name: 'cached-http',
  about: 'decisions on a cached token over HTTP',
  tools: ['wrk'],
  async run(bench) {
    const authority = await benchAuthority(bench);
    const gatecar = await startGatecar(bench, authority.settings);
    const headers = { Authorization: `Bearer ${authority.token}` };
    const bare = await startBareHttp(bench, `${gatecar.auth}/auth`, headers);
    const asked = [
      { ...bare, url: `${bare.url}/auth` },
      { ...gatecar, url: `${gatecar.auth}/auth` },
    ];
    const samples = await takeTurns(
      bench,
      asked.map(({ name, pid, url }) => ({ name, pid, load: seconds => wrk({ url, headers, seconds }) })),
    );
    report(bench, 'decisions/s', 'perSecond', samples, { of: 'ratio', bound: '≥', limit: 0.7 });
    report(bench, 'p99, ms', 'p99Ms', samples, { of: 'ratio', bound: '≤', limit: 1.3 });
    report(bench, 'core time, µs', 'cpuUs', samples);
    bench.check('one token is one review', authority.reviews === 1);
    const allowed = await gatecar.metric('gatecar_requests_total{protocol="http",decision="allow",reason=""}');
    bench.check('each response is a decision', allowed > (samples[1]?.requests ?? Number.NaN));
  },
};
