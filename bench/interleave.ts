import type { Load } from './load.ts';
import { cpuSeconds } from './pinned-process.ts';
import type { Bench, Goal } from './scenario.ts';
import { ratios } from './statistics.ts';

/** Somebody who is measured. */
export interface Contender {
  readonly name: string;
  /** Whose time is counted; for nobody's, 0. */
  readonly pid: number;
  load(seconds: number): Promise<Load>;
}

/** One value for each round. */
export interface Samples {
  readonly name: string;
  /** Of all rounds, and of what came before them. */
  requests: number;
  readonly perSecond: number[];
  readonly p50Ms: number[];
  readonly p99Ms: number[];
  /** Time of the core that one request took, in microseconds. */
  readonly cpuUs: number[];
}

type Measure = 'perSecond' | 'p50Ms' | 'p99Ms' | 'cpuUs';

/** Each warmed, then each in every round, in changing order: what disturbs the machine disturbs them all. */
export async function takeTurns(bench: Bench, contenders: readonly Contender[]): Promise<Samples[]> {
  const samples = contenders.map(({ name }): Samples => {
    return { name, requests: 0, perSecond: [], p50Ms: [], p99Ms: [], cpuUs: [] };
  });
  const turns = contenders.map((contender, at) => ({ contender, into: samples[at] as Samples }));
  for (const { contender, into } of turns) into.requests += (await contender.load(bench.quick ? 1 : 2)).requests;
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const { contender, into } of turns.toReversed()) {
      const before = contender.pid && cpuSeconds(contender.pid);
      const load = await contender.load(bench.seconds);
      const cpu = contender.pid && cpuSeconds(contender.pid) - before;
      into.requests += load.requests;
      into.perSecond.push(load.perSecond);
      into.p50Ms.push(load.p50Ms);
      into.p99Ms.push(load.p99Ms);
      into.cpuUs.push((cpu * 1e6) / load.requests);
    }
    turns.reverse();
  }
  return samples;
}

/** Puts one measure of all of them into the table, as ratios to the first; the goal is the last one's. */
export function tell(bench: Bench, what: string, measure: Measure, samples: readonly Samples[], goal?: Goal): void {
  const [reference] = samples;
  for (const sample of samples) {
    const isReference = sample === reference;
    bench.row({
      what,
      by: sample.name,
      values: sample[measure],
      ...(!isReference && reference && { ratios: ratios(sample[measure], reference[measure]) }),
      ...(goal && sample === samples.at(-1) && { goal }),
    });
  }
}
