import type { Load } from './load.ts';
import { cpuSeconds } from './pinned-process.ts';
import type { Bench, Goal } from './scenario.ts';
import { ratios } from './statistics.ts';

/** A process that is measured. */
export interface Contender {
  readonly name: string;
  /** The process whose CPU time is counted; 0 for none. */
  readonly pid: number;
  load(seconds: number): Promise<Load>;
}

/** Measurements of one contender, with one value per round. */
export interface Samples {
  readonly name: string;
  /** Number of requests in all rounds and in the warm-up. */
  requests: number;
  readonly perSecond: number[];
  readonly p50Ms: number[];
  readonly p99Ms: number[];
  /** CPU time per request, in microseconds. */
  readonly cpuUs: number[];
}

type Measure = 'perSecond' | 'p50Ms' | 'p99Ms' | 'cpuUs';

/**
 * Warms up each contender, then measures each one in every round. The order alternates, so that
 * disturbances of the machine affect all contenders alike.
 */
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

/**
 * Adds one measure of all contenders to the table, as ratios to the first one. The goal applies to
 * the last one.
 */
export function report(bench: Bench, what: string, measure: Measure, samples: readonly Samples[], goal?: Goal): void {
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
