import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import type { Bench } from './scenario.ts';

/** What is measured gets one core; the load, and all else, the other. */
export const MEASURED_CORE = '0';
export const LOAD_CORE = '1';

/** Of /proc's times (`CLK_TCK`). */
const TICKS_PER_SECOND = 100;
const STOP_LIMIT_MS = 10_000;

export interface MeasuredProcess {
  readonly name: string;
  readonly pid: number;
  /** When it was started, as `performance.now()` has it. */
  readonly startedAt: number;
  /** What `ready` made of its line. */
  readonly told: string;
  /** Its lines from then on. */
  readonly lines: Interface;
  /** Settles when it is gone. */
  stop(): Promise<void>;
  /** Settles when it is gone, asked to or not. */
  readonly ended: Promise<unknown>;
  write(line: string): void;
}

export interface ProcessOptions {
  readonly name: string;
  /** For Node.js: flags, script, arguments. */
  readonly args: readonly string[];
  readonly input?: string;
  /** Another than the measured one. */
  readonly core?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** What to take of the line that says it is ready. */
  readonly ready: (line: string) => string | undefined;
}

const alive = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

/** Moves this process, and whatever it starts without saying otherwise, to the core of the load. */
export function moveToLoadCore(): void {
  execFileSync('taskset', ['-a', '-c', '-p', LOAD_CORE, String(process.pid)], { stdio: 'ignore' });
}

/** Starts a Node.js, on the measured core unless told otherwise, until the scenario ends. @throws where it ends before it is ready. */
export async function startMeasured(bench: Bench, options: ProcessOptions): Promise<MeasuredProcess> {
  const { name, args, input, env, ready, core = MEASURED_CORE } = options;
  const startedAt = performance.now();
  // taskset becomes what it starts: the pid is that of Node.js.
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
  const told = await new Promise<string>((resolve, reject) => {
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
    told,
    lines,
    stop,
    ended,
    write: line => child.stdin.write(`${line}\n`),
  };
}

/** All the time a process has had of its core, in seconds. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Resident memory, in megabytes of 10⁶ bytes as a pod's limit may be given. */
export function residentMb(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (Number(kib) * 1024) / 1e6;
}

/** Open files and sockets. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
