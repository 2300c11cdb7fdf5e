import { once } from 'node:events';
import { join } from 'node:path';
import { MEASURED_CORE, startMeasured } from './pinned-process.ts';
import type { Bench } from './scenario.ts';
import type { Job } from './servers/asker.ts';

/**
 * Sends a job to the load client.
 *
 * @returns the response time of each token in milliseconds, sorted.
 * @throws if a token is not accepted.
 */
export type Asker = (job: Job) => Promise<number[]>;

export interface AskerTarget {
  readonly url: string;
  readonly ca?: string;
  readonly credential?: string;
}

/**
 * Starts the load client.
 *
 * @param core on the measured core, the client leaves the other core to the API server, if that is
 * the bottleneck.
 */
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
      throw new Error('a request was not allowed');
    });
    const [line] = await Promise.race([once(asker.lines, 'line'), ended]);
    return JSON.parse(line);
  };
}
