#!/usr/bin/env node
import process from 'node:process';
import { VERSION } from './app.ts';
import { ConfigError, readConfig } from './config/config.ts';
import { help } from './config/help.ts';
import type { Surroundings } from './endpoint-source.ts';
import { ListenError } from './operations/listen.ts';
import { type Logger, logger } from './operations/log.ts';
import { TlsFileError } from './operations/tls-files.ts';
import { type Running, serve } from './serve.ts';

const COMMANDS = ['serve', 'dev'] as const;
type Command = (typeof COMMANDS)[number];

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

await main(process.argv.slice(2));

async function main(args: string[]): Promise<void> {
  if (args.includes('--help') || args.includes('-h')) return print(help());
  if (args.includes('--version')) return print(`${VERSION}\n`);
  const command = COMMANDS.find(name => name === args[0]) ?? 'serve';
  const rest = COMMANDS.includes(args[0] as Command) ? args.slice(1) : args;
  const log = logger('info');
  failOnUncaught(log);
  try {
    await run(command, rest);
  } catch (error) {
    if (error instanceof ConfigError) return fail(EXIT_USAGE, error.faults);
    if (error instanceof TlsFileError) return fail(EXIT_USAGE, [error.message]);
    if (error instanceof ListenError) return fail(EXIT_FAILURE, [error.message]);
    throw error;
  }
}

async function run(command: Command, args: string[]): Promise<void> {
  if (command === 'dev') {
    const { dev } = await import('./dev/dev.ts');
    const running = await dev(args, process.env, text => process.stdout.write(text));
    return stopOnSignal(running);
  }
  const config = readConfig(args, process.env);
  const surroundings: Surroundings = {
    inCluster: process.env['KUBERNETES_SERVICE_HOST'] !== undefined,
    // As kubectl does. The system's own list of users has no entry for the made-up user ids that some clusters run as.
    homeDirectory: process.env['HOME'] || undefined,
  };
  stopOnSignal(await serve(config, surroundings, logger(config.logLevel)));
}

/** The first signal drains and exits 0; a second one ends at once. */
function stopOnSignal(running: Running): void {
  let stopping = false;
  const onSignal = (_signal: NodeJS.Signals, number: number): void => {
    if (stopping) process.exit(128 + number);
    stopping = true;
    running.stop().then(() => process.exit(0));
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
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
  process.stderr.write(lines.map(line => `gatecar: ${line}\n`).join(''));
  process.exitCode = code;
}
