import { unknownChoice } from '../../config/suggest-name.ts';
import { type CommandContext, UsageError } from '../command.ts';
import { bashScript } from './bash.ts';
import { SHELLS } from './completed-words.ts';
import { fishScript } from './fish.ts';
import { zshScript } from './zsh.ts';

const SCRIPTS: Readonly<Record<(typeof SHELLS)[number], () => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/**
 * Runs `gatecar completion SHELL`: prints the completion script for that shell.
 *
 * @returns the exit code, 0.
 * @throws {UsageError}
 */
export async function completionCommand({ args, terminal }: CommandContext): Promise<number> {
  const [given, ...more] = args;
  if (given === undefined || more.length > 0) {
    throw new UsageError(`completion takes one name of ${SHELLS.join(', ')}`);
  }
  const shell = SHELLS.find(one => one === given);
  if (shell === undefined) throw new UsageError(unknownChoice(given, SHELLS, 'shell'));
  terminal.write(SCRIPTS[shell]());
  return 0;
}
