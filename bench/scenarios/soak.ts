import { setTimeout as sleep } from 'node:timers/promises';
import { CHECK } from '../check-request.ts';
import { startGatecarWithGrpc } from '../grpc.ts';
import { h2load, wrk } from '../load.ts';
import { openDescriptors, residentMb } from '../pinned-process.ts';
import type { Scenario } from '../scenario.ts';

/** Time in which the load's connections close on both sides, in milliseconds. */
const CLOSED_MS = 1_000;

export const soak: Scenario = {
  name: 'soak',
  about: 'several minutes of full load over HTTP and gRPC at the same time',
  tools: ['wrk', 'h2load'],
  byNameOnly: true,
  async run(bench) {
    const [minutes, seconds] = bench.quick ? [2, 1] : [bench.minutes, 60];
    const { authority, gatecar, bodyFile } = await startGatecarWithGrpc(bench);

    const url = `${gatecar.auth}/auth`;
    const http = { url, headers: { Authorization: `Bearer ${authority.token}` } };
    const grpc = { url: gatecar.grpc + CHECK.path, headers: CHECK.headers, bodyFile };
    const lagMs = async (part: 'p50' | 'p99') => (await gatecar.metric(`nodejs_eventloop_lag_${part}_seconds`)) * 1000;
    // The metric covers an interval, so this load must be part of the first one.
    await wrk({ ...http, seconds: 1 });
    await lagMs('p50');
    await sleep(CLOSED_MS);
    const intervalMs = await lagMs('p50');

    const resident: number[] = [];
    const descriptors: number[] = [];
    const lags: number[] = [];
    const decisions = { http: [] as number[], grpc: [] as number[] };
    for (let minute = 0; minute < minutes; minute += 1) {
      const loads = await Promise.all([wrk({ ...http, seconds }), h2load({ ...grpc, seconds })]);
      resident.push(residentMb(gatecar.pid));
      lags.push((await lagMs('p99')) - intervalMs);
      await sleep(CLOSED_MS);
      descriptors.push(openDescriptors(gatecar.pid));
      decisions.http.push(loads[0].perSecond);
      decisions.grpc.push(loads[1].perSecond);
    }
    const by = `gatecar, ${minutes} minutes`;
    const [first = Number.NaN, last = Number.NaN] = [resident[0], resident.at(-1)];
    bench.row({ what: 'decisions/s over HTTP', by, values: decisions.http });
    bench.row({ what: 'decisions/s over gRPC, at the same time', by, values: decisions.grpc });
    const flat = { of: 'ratio', bound: '≤', limit: 1.1 } as const;
    bench.row({ what: 'resident MB, last to first minute', by, values: resident, ratios: [last / first], goal: flat });
    const prompt = { of: 'value', bound: '≤', limit: 10 } as const;
    bench.row({ what: 'event-loop delay p99, ms', by, values: lags, goal: prompt });
    bench.row({ what: 'open descriptors, after each minute', by, values: descriptors });
    bench.check('no descriptor leaks', (descriptors.at(-1) ?? Number.NaN) <= (descriptors[0] ?? Number.NaN));
    // gatecar refreshes a result in use before its ten minutes are over, at 88 % to 98 % of its
    // lifetime.
    const lives = 1 + Math.floor((minutes * seconds) / (0.88 * 600));
    bench.check('one token is one review per lifetime of its cached result', authority.reviews <= lives);
  },
};
