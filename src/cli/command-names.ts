import { unknownArgument } from '../config/suggest-name.ts';
import { UsageError } from './command.ts';

/** The commands, each with one line about it. */
export const COMMANDS = {
  serve: 'the sidecar (the default)',
  dev: 'the sidecar with a fake API server that issues and reviews tokens',
  check: 'whether these settings work here; if not, why, and the command that fixes it',
  explain: 'how gatecar decides on a token, step by step, and why',
  gateway: "prints a gateway's configuration for the settings in force",
  top: 'decisions, hit rate, reviews and latency of a running gatecar, live',
  completion: 'prints a completion script for bash, zsh or fish',
} as const;

export type Command = keyof typeof COMMANDS;

/** What the arguments of the process ask for. */
export interface Invocation {
  readonly command: Command;
  /** The arguments after the command. */
  readonly args: readonly string[];
  /** Prints a text and exits, instead of running the command. */
  readonly prints?: 'help' | 'version';
}

/**
 * Reads the command from the arguments of the process. Without a command it is `serve`.
 *
 * @throws {UsageError} if the first argument is neither a flag nor a command.
 */
export function readInvocation(given: readonly string[]): Invocation {
  const [first, ...rest] = given;
  if (first === 'help') return { command: topicOf(rest[0]), args: [], prints: 'help' };
  if (first === 'version') return { command: 'serve', args: [], prints: 'version' };
  const isFlag = first === undefined || first.startsWith('-');
  const command = isFlag ? 'serve' : commandNamed(first);
  const args = isFlag ? given : rest;
  if (given.includes('--help') || given.includes('-h')) return { command, args, prints: 'help' };
  if (given.includes('--version') || given.includes('-v')) return { command, args, prints: 'version' };
  return { command, args };
}

/** Returns the command whose help has this topic. */
function topicOf(name: string | undefined): Command {
  return name === undefined || name === 'help' || name === 'version' ? 'serve' : commandNamed(name);
}

function commandNamed(name: string): Command {
  if (Object.hasOwn(COMMANDS, name)) return name as Command;
  const text = unknownArgument(name, [...Object.keys(COMMANDS), 'help', 'version'], 'command');
  throw new UsageError(`${text}${text.endsWith('?') ? ' See' : '; see'} gatecar --help`);
}
