#!/usr/bin/env node
import process from 'node:process';
import { buffer } from 'node:stream/consumers';
import { VERSION } from './app.ts';
import { UsageError } from './commands/command.ts';
import { plain } from './commands/terminal.ts';
import { ConfigError, readConfig } from './config/config.ts';
import { help } from './config/help.ts';
import { readTracingSettings } from './config/tracing-settings.ts';
import { clusterAddress, type Surroundings } from './endpoint-source.ts';
import { ListenError } from './operations/listen.ts';
import { type Logger, logger } from './operations/log.ts';
import { releaseStartMemory } from './operations/start-memory.ts';
import { TlsFileError } from './operations/tls-files.ts';
import { type Running, serve } from './serve.ts';

const COMMANDS = ['serve', 'dev', 'check', 'explain', 'gateway'] as const;
type Command = (typeof COMMANDS)[number];

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/** How long the last lines may take to be written, in milliseconds. */
const WRITE_LIMIT_MS = 2_000;

/** When a start is over, in milliseconds after it listens: the API server was asked, and the kubelet has hardly sent anybody. */
const STARTED_AFTER_MS = 1_000;

await main(process.argv.slice(2));

async function main(args: string[]): Promise<void> {
  const command = COMMANDS.find(name => name === args[0]) ?? 'serve';
  if (args.includes('--help') || args.includes('-h')) return print(await helpOf(command));
  if (args.includes('--version')) return print(`${VERSION}\n`);
  const rest = COMMANDS.includes(args[0] as Command) ? args.slice(1) : args;
  const log = logger('info');
  failOnUncaught(log);
  try {
    await run(command, rest);
  } catch (error) {
    if (error instanceof ConfigError) return fail(EXIT_USAGE, error.faults);
    if (error instanceof UsageError) return fail(EXIT_USAGE, [error.message]);
    if (error instanceof TlsFileError) return fail(EXIT_USAGE, [error.message]);
    if (error instanceof ListenError) return fail(EXIT_FAILURE, [error.message]);
    throw error;
  }
}

async function run(command: Command, args: string[]): Promise<void> {
  if (command === 'dev') {
    const { dev } = await import('./dev/dev.ts');
    const running = await dev(args, process.env, text => process.stdout.write(text));
    return stopOnSignal(running, logger('silent'));
  }
  if (command !== 'serve') {
    process.exitCode = await runOnce(command, args);
    return;
  }
  const config = readConfig(args, process.env);
  const log = logger(config.logLevel);
  stopOnSignal(await serve(config, surroundings(), log), log);
  setTimeout(releaseStartMemory, STARTED_AFTER_MS).unref();
}

/** The commands that answer and end; loaded only where they are asked for. */
async function runOnce(command: Exclude<Command, 'serve' | 'dev'>, args: string[]): Promise<number> {
  const { COMMANDS_THAT_END } = await import('./commands/commands-that-end.ts');
  return COMMANDS_THAT_END[command]({
    args,
    env: process.env,
    surroundings: surroundings(),
    version: VERSION,
    terminal: {
      write: print,
      complain: text => process.stderr.write(text),
      readInput: () => buffer(process.stdin),
      isTerminal: process.stdout.isTTY,
    },
  });
}

async function helpOf(command: Command): Promise<string> {
  if (command === 'serve' || command === 'dev') return help();
  return (await import('./commands/command-help.ts')).COMMAND_HELP[command];
}

function surroundings(): Surroundings {
  return {
    inCluster: clusterAddress(process.env),
    // As kubectl does. The system's own list of users has no entry for the made-up user ids that some clusters run as.
    homeDirectory: process.env['HOME'] || undefined,
    tracing: readTracingSettings(process.env),
  };
}

/** The first signal drains and exits 0; a second one ends at once. */
function stopOnSignal(running: Running, log: Logger): void {
  let stopping = false;
  const onSignal = (_signal: NodeJS.Signals, number: number): void => {
    if (stopping) process.exit(128 + number);
    stopping = true;
    running.stop().then(() => endOnceWritten(log));
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
}

/** An exit waits for writes under way, for ever where nobody reads: past its time there is only one that waits for nothing. */
async function endOnceWritten(log: Logger): Promise<void> {
  setTimeout(process.kill, WRITE_LIMIT_MS, process.pid, 'SIGKILL');
  await log.written();
  process.exit(0);
}

/** An error nobody foresaw leaves an unknown state: say so and end, so that the kubelet starts anew. */
function failOnUncaught(log: Logger): void {
  const end = (error: unknown): void => {
    log.fatal({ err: error }, 'uncaught error');
    process.exit(EXIT_FAILURE);
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
}

function print(text: string): void {
  process.stdout.write(text);
}

function fail(code: number, lines: readonly string[]): void {
  process.stderr.write(lines.map(line => `gatecar: ${plain(line)}\n`).join(''));
  process.exitCode = code;
}
