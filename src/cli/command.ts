import { type CommandLine, readCommandLine } from '../config/arguments.ts';
import type { Environment } from '../config/load.ts';
import type { RuntimeEnvironment } from '../kube/endpoint-selection.ts';
import type { Terminal } from './output.ts';

/** What the process passes to a command. */
export interface CommandContext {
  readonly args: readonly string[];
  readonly env: Environment;
  readonly runtimeEnvironment: RuntimeEnvironment;
  readonly version: string;
  readonly terminal: Terminal;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
}

/** Describes a usage error; the process exits with {@link EXIT_USAGE}. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const EXIT_USAGE = 2;

/** The format of results. */
export type Output = 'text' | 'json';

/**
 * Separates the command's own flags from the settings.
 *
 * @throws {UsageError} if the value of `--output` is unknown.
 */
export function readCommand(
  args: readonly string[],
  ownFlags: readonly string[] = [],
): CommandLine & { readonly output: Output } {
  const line = readCommandLine(args, ['output', ...ownFlags]);
  const output = line.own.has('output') ? line.own.get('output') : 'text';
  if (output !== 'text' && output !== 'json') throw new UsageError('--output must be text or json');
  return { ...line, output };
}
