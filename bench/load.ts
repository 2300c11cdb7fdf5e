import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { LOAD_CORE } from './pinned-process.ts';
import { quantile } from './statistics.ts';

/** Results of a load generator. */
export interface Load {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface WrkOptions {
  readonly url: string;
  readonly seconds: number;
  readonly connections?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** A wrk script in this folder that makes the requests, and its arguments. */
  readonly script?: readonly [string, ...string[]];
  /** Whether every response must be a denial. */
  readonly refused?: boolean;
  /** Whether responses, missing ones and socket errors are ignored. */
  readonly anyAnswer?: boolean;
}

/**
 * Runs wrk: HTTP/1.1 with kept-alive connections.
 *
 * @throws if a response is unexpected or a connection fails.
 */
export async function wrk(options: WrkOptions): Promise<Load> {
  const { url, seconds, connections = 32, headers = {}, script, refused = false, anyAnswer = false } = options;
  const output = await run('wrk', [
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '--latency',
    '--timeout',
    '10s',
    ...Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]),
    ...(script ? ['-s', join(import.meta.dirname, script[0])] : []),
    url,
    ...(script ? ['--', ...script.slice(1)] : []),
  ]);
  const found = (pattern: RegExp) => pattern.exec(output)?.slice(1) ?? [];
  const requests = Number(found(/(\d+) requests in/)[0]);
  const others = Number(found(/Non-2xx or 3xx responses: (\d+)/)[0] ?? 0);
  const asExpected = !/Socket errors/.test(output) && others === (refused ? requests : 0);
  if (!(requests > 0) || !(asExpected || anyAnswer)) {
    throw new Error(`unexpected responses:\n${output}`);
  }
  return {
    requests,
    perSecond: Number(found(/Requests\/sec:\s+([\d.]+)/)[0]),
    p50Ms: milliseconds(found(/50%\s+([\d.]+)(us|ms|s)/)),
    p99Ms: milliseconds(found(/99%\s+([\d.]+)(us|ms|s)/)),
  };
}

export interface H2loadOptions {
  readonly url: string;
  readonly seconds: number;
  /** Envoy has one connection for each of its workers. */
  readonly connections?: number;
  readonly streams?: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Path of the file with the body of each request. */
  readonly bodyFile: string;
}

/**
 * Runs h2load: HTTP/2 without TLS, with prior knowledge.
 *
 * @throws if a response is not 200 or a stream fails.
 */
export async function h2load(options: H2loadOptions): Promise<Load> {
  const { url, seconds, connections = 4, streams = 8, headers, bodyFile } = options;
  const directory = await mkdtemp(join(tmpdir(), 'gatecar-bench-'));
  try {
    const log = join(directory, 'log');
    const output = await run('h2load', [
      '-t1',
      `-c${connections}`,
      `-m${streams}`,
      '-D',
      String(seconds),
      `--log-file=${log}`,
      '-d',
      bodyFile,
      ...Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]),
      url,
    ]);
    const [requests, failed, errored, timedOut] =
      /(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/.exec(output)?.slice(1).map(Number) ?? [];
    const perSecond = Number(/, ([\d.]+) req\/s/.exec(output)?.[1]);
    if (!requests || failed || errored || timedOut || !/, 0 3xx, 0 4xx, 0 5xx/.test(output)) {
      throw new Error(`unexpected responses:\n${output}`);
    }
    const took = (await readFile(log, 'utf8'))
      .trimEnd()
      .split('\n')
      .map(line => Number(line.split('\t')[2]) / 1000);
    return { requests, perSecond, p50Ms: quantile(took, 0.5), p99Ms: quantile(took, 0.99) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn('taskset', ['-c', LOAD_CORE, program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  return String(await buffer(child.stdout));
}

function milliseconds([value, unit]: readonly string[]): number {
  return Number(value) * ({ us: 0.001, ms: 1, s: 1000 }[unit ?? ''] ?? Number.NaN);
}
