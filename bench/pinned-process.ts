import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import type { Bench } from './scenario.ts';

/** The measured process has one core; the load generator and all other processes use the other. */
export const MEASURED_CORE = '0';
export const LOAD_CORE = '1';

/** Unit of the times in /proc (`CLK_TCK`). */
const TICKS_PER_SECOND = 100;
const STOP_LIMIT_MS = 10_000;

export interface MeasuredProcess {
  readonly name: string;
  readonly pid: number;
  /** Start time, in the time base of `performance.now()`. */
  readonly startedAt: number;
  /** The value that `ready` returned. */
  readonly readyValue: string;
  /** The lines that it writes after it is ready. */
  readonly lines: Interface;
  /** Stops the process, and resolves when it has exited. */
  stop(): Promise<void>;
  /** Resolves when the process has exited, for any reason. */
  readonly ended: Promise<unknown>;
  write(line: string): void;
}

export interface ProcessOptions {
  readonly name: string;
  /** Arguments of Node.js: flags, script, arguments of the script. */
  readonly args: readonly string[];
  readonly input?: string;
  /** The core to run on; the measured core by default. */
  readonly core?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Returns a value from the line that reports readiness, and `undefined` for other lines. */
  readonly ready: (line: string) => string | undefined;
}

const alive = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

/** Moves this process to the core of the load. Its child processes inherit that core. */
export function moveToLoadCore(): void {
  execFileSync('taskset', ['-a', '-c', '-p', LOAD_CORE, String(process.pid)], { stdio: 'ignore' });
}

/**
 * Starts a Node.js process, on the measured core by default, and stops it when the scenario ends.
 *
 * @throws if it exits before it is ready.
 */
export async function startMeasured(bench: Bench, options: ProcessOptions): Promise<MeasuredProcess> {
  const { name, args, input, env, ready, core = MEASURED_CORE } = options;
  const startedAt = performance.now();
  // taskset replaces itself with the command, so the pid is that of Node.js.
  const child = spawn('taskset', ['-c', core, process.execPath, ...args], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  alive.add(child);
  const ended = once(child, 'exit').finally(() => alive.delete(child));
  const stop = async () => {
    child.kill('SIGTERM');
    const kill = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
    await ended;
    clearTimeout(kill);
  };
  bench.teardown(stop);
  child.stdin.on('error', () => {});
  if (input !== undefined) child.stdin.end(input);
  const lines = createInterface({ input: child.stdout });
  const readyValue = await new Promise<string>((resolve, reject) => {
    const look = (line: string): void => {
      const found = ready(line);
      if (found === undefined) return;
      lines.off('line', look);
      resolve(found);
    };
    lines.on('line', look);
    ended.then(([code, signal]) => reject(new Error(`${name} ended before it was ready: ${signal ?? code}`)), reject);
  });
  return {
    name,
    pid: child.pid ?? 0,
    startedAt,
    readyValue,
    lines,
    stop,
    ended,
    write: line => child.stdin.write(`${line}\n`),
  };
}

/** Returns the CPU time that a process has used so far, in seconds. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Returns the resident memory in megabytes (10⁶ bytes), the unit of a pod's limit. */
export function residentMb(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (Number(kib) * 1024) / 1e6;
}

/** Returns the number of open files and sockets. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
