import { checkCommand } from './check.ts';
import type { CommandContext } from './command.ts';
import { explainCommand } from './explain.ts';

/** What answers and ends, each with its exit code. */
export const COMMANDS_THAT_END = {
  check: checkCommand,
  explain: explainCommand,
} as const satisfies Record<string, (context: CommandContext) => Promise<number>>;
