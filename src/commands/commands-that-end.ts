import type { CommandContext } from './command.ts';
import { explainCommand } from './explain.ts';

/** What answers and ends, each with its exit code. */
export const COMMANDS_THAT_END = {
  explain: explainCommand,
} as const satisfies Record<string, (context: CommandContext) => Promise<number>>;
