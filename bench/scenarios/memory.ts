import { setTimeout as sleep } from 'node:timers/promises';
import { sendRequest } from '../../test/fixtures/send-request.ts';
import { benchAuthority } from '../dev-authority.ts';
import { startGatecar } from '../gatecar.ts';
import { wrk } from '../load.ts';
import { residentMb } from '../pinned-process.ts';
import { compressedImageBytes } from '../production-build.ts';
import type { Bench, Scenario } from '../scenario.ts';

const IDLE_MS = 2_000;
const LOOK_EVERY_MS = 100;

export const memory: Scenario = {
  name: 'memory',
  about: 'start time, memory and size of gatecar as the image runs it',
  tools: ['wrk', 'tar'],
  async run(bench) {
    const authority = await benchAuthority(bench);
    const took: number[] = [];
    const idle: number[] = [];
    const busy: number[] = [];
    for (let round = 0; round < bench.rounds; round += 1) {
      const gatecar = await startGatecar(bench, authority.settings);
      took.push(gatecar.readyMs);
      const headers = { Authorization: `Bearer ${authority.token}` };
      await sendRequest(gatecar.auth, { headers });
      await sleep(bench.quick ? 0 : IDLE_MS);
      idle.push(residentMb(gatecar.pid));
      busy.push(
        await peakUnder(gatecar.pid, () => wrk({ url: `${gatecar.auth}/auth`, headers, seconds: bench.seconds })),
      );
      await gatecar.stop();
    }
    report(bench, 'start to ready, ms', took, 250);
    report(bench, 'idle, resident MB', idle, 80);
    report(bench, 'full load, peak resident MB', busy, 130);
    const bytes = compressedImageBytes();
    report(bench, 'compressed image layers, MB', [bytes / 1e6], 1);
    bench.check('one token is one review of each process', authority.reviews === 2 * bench.rounds - 1);
  },
};

function report(bench: Bench, what: string, values: readonly number[], limit: number): void {
  bench.row({ what, by: 'gatecar', values, goal: { of: 'value', bound: '≤', limit } });
}

/** Returns the peak resident memory while `work` runs. */
async function peakUnder(pid: number, work: () => Promise<unknown>): Promise<number> {
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, residentMb(pid));
  }, LOOK_EVERY_MS);
  await work().finally(() => clearInterval(timer));
  return peak;
}
