import { once } from 'node:events';
import { join } from 'node:path';
import { MEASURED_CORE, startMeasured } from './pinned-process.ts';
import type { Bench } from './scenario.ts';
import type { Job } from './servers/asker.ts';

/** @returns milliseconds of each token's answer, sorted. @throws where one was no yes. */
export type Asker = (job: Job) => Promise<number[]>;

export interface AskerTarget {
  readonly url: string;
  readonly ca?: string;
  readonly credential?: string;
}

/** @param core the measured one leaves the other to the API server, where that is what takes time. */
export async function startAsker(bench: Bench, target: AskerTarget, core = MEASURED_CORE): Promise<Asker> {
  const script = join(import.meta.dirname, 'servers/asker.ts');
  const asker = await startMeasured(bench, {
    name: 'asker',
    args: [script, JSON.stringify(target)],
    ready: line => line,
    core,
  });
  return async job => {
    asker.write(JSON.stringify(job));
    const ended = asker.ended.then(() => {
      throw new Error('an answer was no yes');
    });
    const [line] = await Promise.race([once(asker.lines, 'line'), ended]);
    return JSON.parse(line);
  };
}
