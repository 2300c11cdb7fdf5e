import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** The server gets one core, the load the other, as far as there are two. */
const SERVER_CORE = '0';
export const LOAD_CORE = '1';

/** A server under measurement. */
export interface Measured {
  readonly name: string;
  readonly url: string;
  readonly process: ChildProcess;
}

/** Starts a script of this project on its own core; `ready` finds its base URL in a line of its output. */
export async function startServer(
  name: string,
  args: readonly string[],
  options: {
    readonly input?: string;
    readonly env?: NodeJS.ProcessEnv;
    readonly ready: (line: string) => string | undefined;
  },
): Promise<Measured> {
  const child = spawn('taskset', ['-c', SERVER_CORE, process.execPath, ...args], {
    env: { PATH: process.env['PATH'], ...options.env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(options.input ?? '');
  for await (const line of createInterface({ input: child.stdout })) {
    const url = options.ready(line);
    if (url === undefined) continue;
    child.stdout.resume();
    return { name, url, process: child };
  }
  throw new Error(`${name} ended before it was ready`);
}

/** Ends a server and waits until it is gone. */
export async function stopServer({ process: child }: Measured): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}

export interface Load {
  readonly requestsPerSecond: number;
  readonly p99Ms: number;
}

/** Runs wrk with 32 connections. @throws if any answer was not 2xx or a connection failed. */
export async function load(url: string, headers: readonly string[], seconds: number): Promise<Load> {
  const args = [
    '-c',
    LOAD_CORE,
    'wrk',
    '-t1',
    '-c32',
    `-d${seconds}s`,
    '--latency',
    ...headers.flatMap(one => ['-H', one]),
    url,
  ];
  const child = spawn('taskset', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', chunk => {
    output += chunk;
  });
  await once(child, 'close');
  if (/Non-2xx|Socket errors/.test(output)) throw new Error(`the load found errors:\n${output}`);
  const [, rate] = /Requests\/sec:\s+([\d.]+)/.exec(output) ?? [];
  const [, p99, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(output) ?? [];
  if (rate === undefined || p99 === undefined) throw new Error(`wrk said nothing that can be read:\n${output}`);
  const factor = { us: 0.001, ms: 1, s: 1000 }[unit ?? 'ms'] ?? 1;
  return { requestsPerSecond: Number(rate), p99Ms: Number(p99) * factor };
}

/** The middle of an odd number of values. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
