#!/usr/bin/env node
import process from 'node:process';
import { buffer } from 'node:stream/consumers';
import { VERSION } from './app.ts';
import { UsageError } from './cli/command.ts';
import { stripControl } from './cli/output.ts';
import { help } from './config/help.ts';
import { ConfigError, readConfig } from './config/load.ts';
import { readTracingSettings } from './config/tracing-settings.ts';
import { inClusterAddress, type RuntimeEnvironment } from './kube/endpoint-selection.ts';
import { describeError, logger } from './observability/logging/logger.ts';
import { ERROR_LINES, LOG_LINES, STANDARD_OUTPUT } from './observability/logging/process-output.ts';
import { WriteError, writeWhole } from './observability/logging/standard-stream.ts';
import { type RunningServer, serve } from './serve.ts';
import { ListenError } from './server/listen.ts';
import { TlsFileError } from './tls/tls-files.ts';

const COMMANDS = ['serve', 'dev', 'check', 'explain', 'gateway'] as const;
type Command = (typeof COMMANDS)[number];

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/** As a shell reports a program that SIGPIPE ended. */
const EXIT_READER_GONE = 128 + 13;

/** How long the last lines may take to be written, in milliseconds: after a drain, and after an uncaught error. */
const LAST_LINES_MS = 2_000;
const LAST_LINES_OF_FAULT_MS = 500;

await main(process.argv.slice(2));

async function main(args: string[]): Promise<void> {
  const command = COMMANDS.find(name => name === args[0]) ?? 'serve';
  const rest = COMMANDS.includes(args[0] as Command) ? args.slice(1) : args;
  ignoreSignals();
  exitOnUncaughtError();
  try {
    if (args.includes('--help') || args.includes('-h')) await print(await helpOf(command));
    else if (args.includes('--version')) await print(`${VERSION}\n`);
    else await run(command, rest);
  } catch (error) {
    if (error instanceof WriteError) return failPrint(error);
    if (error instanceof ConfigError) return fail(EXIT_USAGE, error.faults);
    if (error instanceof UsageError) return fail(EXIT_USAGE, [error.message]);
    if (error instanceof TlsFileError) return fail(EXIT_USAGE, [error.message]);
    if (error instanceof ListenError) return fail(EXIT_FAILURE, [error.message]);
    throw error;
  }
}

async function run(command: Command, args: string[]): Promise<void> {
  if (command !== 'serve' && command !== 'dev') {
    process.exitCode = await runOneShotCommand(command, args);
    return;
  }
  const { promise: started, resolve } = Promise.withResolvers<RunningServer>();
  stopOnSignal(started);
  if (command === 'dev') {
    const { dev } = await import('./dev/dev.ts');
    resolve(await dev(args, process.env, text => LOG_LINES.write(text)));
    return;
  }
  const config = readConfig(args, process.env);
  resolve(await serve(config, surroundings(), logger(config.logLevel)));
}

/** The commands that answer and end; loaded only where they are asked for. */
async function runOneShotCommand(command: Exclude<Command, 'serve' | 'dev'>, args: string[]): Promise<number> {
  const { ONE_SHOT_COMMANDS: COMMANDS_THAT_END } = await import('./cli/one-shot-commands.ts');
  let text = '';
  let complaints = '';
  const code = await COMMANDS_THAT_END[command]({
    args,
    env: process.env,
    runtimeEnvironment: surroundings(),
    version: VERSION,
    terminal: {
      write: part => {
        text += part;
      },
      complain: part => {
        complaints += part;
      },
      readInput: () => buffer(process.stdin),
      isTerminal: process.stdout.isTTY,
    },
  });
  await print(text);
  ERROR_LINES.write(complaints);
  return code;
}

async function helpOf(command: Command): Promise<string> {
  if (command === 'serve' || command === 'dev') return help();
  return (await import('./cli/command-help.ts')).COMMAND_HELP[command];
}

function surroundings(): RuntimeEnvironment {
  return {
    inCluster: inClusterAddress(process.env),
    // As kubectl does. The system's own list of users has no entry for the made-up user ids that some clusters run as.
    homeDirectory: process.env['HOME'] || undefined,
    tracing: readTracingSettings(process.env),
  };
}

/**
 * The first signal drains and exits 0; a second one ends the process at once, with 128 plus its number.
 *
 * @param started settles once gatecar listens. A signal before that is not lost: the default action of one is not taken
 *   by the first process of a container.
 */
function stopOnSignal(started: Promise<RunningServer>): void {
  let stopping = false;
  const onSignal = (_signal: NodeJS.Signals, number: number): void => {
    if (stopping) exitAfterLogFlush(128 + number, 0);
    else started.then(running => running.stop()).then(() => exitAfterLogFlush(0, LAST_LINES_MS));
    stopping = true;
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, onSignal);
}

/**
 * SIGUSR1 would open Node's inspector, where `--disable-sigusr1` is not given: a debugger for every container of the pod.
 * SIGUSR2 and SIGXFSZ would end the process without a drain; past a limit on file sizes, writing fails instead. Node
 * itself ignores SIGPIPE.
 */
function ignoreSignals(): void {
  for (const signal of ['SIGUSR1', 'SIGUSR2', 'SIGXFSZ'] as const) process.on(signal, () => {});
}

/** Exits when the last lines are written, or could not be within `limitMs`; then it writes `unwritten` to standard error. */
async function exitAfterLogFlush(code: number, limitMs: number, unwritten = ''): Promise<void> {
  const log = await LOG_LINES.finish(limitMs);
  if (log.lost > 0) ERROR_LINES.write(`${unwritten}gatecar: lines not written to standard output: ${log.lost}\n`);
  const errors = await ERROR_LINES.finish(limitMs);
  // An exit would wait for a write to a terminal or disk that is stuck. This alone waits for nothing. (No coverage is
  // written by a process that it ends.)
  /* c8 ignore next */
  if (log.delaysExit || errors.delaysExit) process.kill(process.pid, 'SIGKILL');
  process.exit(code);
}

/** An unexpected error leaves an unknown state: the process logs it and ends, so that the kubelet restarts it. */
function exitOnUncaughtError(): void {
  const log = logger('info');
  const onUncaught = (error: unknown): void => {
    log.fatal({ err: error }, 'uncaught error');
    exitAfterLogFlush(
      EXIT_FAILURE,
      LAST_LINES_OF_FAULT_MS,
      `gatecar: uncaught error: ${stripControl(`${describeError(error)['message']}`)}\n`,
    );
  };
  process.on('uncaughtException', onUncaught);
  process.on('unhandledRejection', onUncaught);
}

function print(text: string): Promise<void> {
  return writeWhole(STANDARD_OUTPUT, text);
}

/** A reader that has had enough (`| head`) is no fault to report. */
function failPrint({ code, message }: WriteError): void {
  if (code === 'EPIPE') process.exitCode = EXIT_READER_GONE;
  else fail(EXIT_FAILURE, [`cannot write to standard output: ${message}`]);
}

function fail(code: number, lines: readonly string[]): void {
  ERROR_LINES.write(lines.map(line => `gatecar: ${stripControl(line)}\n`).join(''));
  process.exitCode = code;
}
