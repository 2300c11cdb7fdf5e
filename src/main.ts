#!/usr/bin/env node
import process from 'node:process';
import { buffer } from 'node:stream/consumers';
import { VERSION } from './app.ts';
import { UsageError } from './cli/command.ts';
import { COMMANDS, type Command, readInvocation } from './cli/command-names.ts';
import { stripControl } from './cli/output.ts';
import { help } from './config/help.ts';
import { ConfigError, readConfig } from './config/load.ts';
import { readTracingSettings } from './config/tracing-settings.ts';
import { inClusterAddress, type RuntimeEnvironment } from './kube/endpoint-selection.ts';
import { LAST_LINES_MS, LAST_LINES_OF_FAULT_MS } from './limits/constants.ts';
import { describeError, logger } from './observability/logging/logger.ts';
import { ERROR_LINES, LOG_LINES, STANDARD_OUTPUT } from './observability/logging/process-output.ts';
import { WriteError, writeWhole } from './observability/logging/standard-stream.ts';
import { type RunningServer, serve } from './serve.ts';
import { ListenError } from './server/listen.ts';
import { TlsFileError } from './tls/tls-files.ts';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/** The exit code that a shell reports for a program terminated by SIGPIPE. */
const EXIT_READER_GONE = 128 + 13;

await main(process.argv.slice(2));

async function main(args: string[]): Promise<void> {
  ignoreSignals();
  exitOnUncaughtError();
  try {
    const invocation = readInvocation(args);
    if (invocation.prints === 'help') await print(await helpOf(invocation.command));
    else if (invocation.prints === 'version') await print(`${VERSION}\n`);
    else await run(invocation.command, invocation.args);
  } catch (error) {
    if (error instanceof WriteError) return failPrint(error);
    if (error instanceof ConfigError) return fail(EXIT_USAGE, error.faults);
    if (error instanceof UsageError) return fail(EXIT_USAGE, [error.message]);
    if (error instanceof TlsFileError) return fail(EXIT_USAGE, [error.message]);
    if (error instanceof ListenError) return fail(EXIT_FAILURE, [error.message]);
    throw error;
  }
}

async function run(command: Command, args: readonly string[]): Promise<void> {
  if (command !== 'serve' && command !== 'dev') {
    process.exitCode = await runOneShotCommand(command, args);
    return;
  }
  const { promise: started, resolve } = Promise.withResolvers<RunningServer>();
  stopOnSignal(started);
  if (command === 'dev') {
    const { dev } = await import('./dev/dev.ts');
    const terminal = { write: (text: string) => void LOG_LINES.write(text), isTerminal: process.stdout.isTTY };
    resolve(await dev(args, process.env, terminal));
    return;
  }
  const config = readConfig(args, process.env);
  resolve(await serve(config, runtimeEnvironment(), logger(config.logLevel)));
}

/**
 * Runs a command that prints a result and exits. The commands' modules are loaded only if needed.
 */
async function runOneShotCommand(command: Exclude<Command, 'serve' | 'dev'>, args: readonly string[]): Promise<number> {
  const { ONE_SHOT_COMMANDS } = await import('./cli/one-shot-commands.ts');
  let text = '';
  let complaints = '';
  const code = await ONE_SHOT_COMMANDS[command]({
    args,
    env: process.env,
    runtimeEnvironment: runtimeEnvironment(),
    version: VERSION,
    terminal: {
      write: part => {
        text += part;
      },
      writeNow: print,
      complain: part => {
        complaints += part;
      },
      readInput: () => buffer(process.stdin),
      isTerminal: process.stdout.isTTY,
      width: process.stdout.columns,
    },
  });
  await print(text);
  ERROR_LINES.write(complaints);
  return code;
}

async function helpOf(command: Command): Promise<string> {
  if (command === 'serve' || command === 'dev') return help(COMMANDS);
  return (await import('./cli/command-help.ts')).COMMAND_HELP[command];
}

function runtimeEnvironment(): RuntimeEnvironment {
  return {
    inCluster: inClusterAddress(process.env),
    // From `HOME`, as kubectl does. Some clusters run containers with arbitrary user IDs, which the
    // system's user database does not have.
    homeDirectory: process.env['HOME'] || undefined,
    tracing: readTracingSettings(process.env),
  };
}

/**
 * Drains and exits with 0 after the first signal. A second signal ends the process immediately,
 * with 128 plus its number.
 *
 * @param started resolves when gatecar listens. An earlier signal takes effect then. Without a
 *   handler it would be lost, since PID 1 of a container has no default action for signals.
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
 * Ignores signals with a harmful default action. Without `--disable-sigusr1`, SIGUSR1 opens Node's
 * inspector: a debugger that every container of the pod can use. SIGUSR2 and SIGXFSZ end the
 * process without a drain. With SIGXFSZ ignored, a write beyond the file size limit fails instead.
 * Node itself ignores SIGPIPE.
 */
function ignoreSignals(): void {
  for (const signal of ['SIGUSR1', 'SIGUSR2', 'SIGXFSZ'] as const) process.on(signal, () => {});
}

/**
 * Exits after the last lines are written, or after `limitMs`. If log lines are lost, it writes
 * `unwritten` and their number to standard error.
 */
async function exitAfterLogFlush(code: number, limitMs: number, unwritten = ''): Promise<void> {
  const log = await LOG_LINES.finish(limitMs);
  if (log.lost > 0) ERROR_LINES.write(`${unwritten}gatecar: lines not written to standard output: ${log.lost}\n`);
  const errors = await ERROR_LINES.finish(limitMs);
  // `process.exit` waits for a blocked write to a terminal or disk. SIGKILL waits for nothing. (A
  // killed process writes no coverage.)
  /* c8 ignore next */
  if (log.delaysExit || errors.delaysExit) process.kill(process.pid, 'SIGKILL');
  process.exit(code);
}

/**
 * Logs an uncaught error and exits, so that the kubelet restarts gatecar. The process state is
 * unknown after such an error.
 */
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

/** Reports a failed write to standard output, unless the reader closed the pipe (`| head`). */
function failPrint({ code, message }: WriteError): void {
  if (code === 'EPIPE') process.exitCode = EXIT_READER_GONE;
  else fail(EXIT_FAILURE, [`cannot write to standard output: ${message}`]);
}

function fail(code: number, lines: readonly string[]): void {
  ERROR_LINES.write(lines.map(line => `gatecar: ${stripControl(line)}\n`).join(''));
  process.exitCode = code;
}
