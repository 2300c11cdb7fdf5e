import { checkCommand } from './check.ts';
import type { CommandContext } from './command.ts';
import { explainCommand } from './explain.ts';
import { gatewayCommand } from './gateway.ts';

/** What answers and ends, each with its exit code. */
export const COMMANDS_THAT_END = {
  check: checkCommand,
  explain: explainCommand,
  gateway: gatewayCommand,
} as const satisfies Record<string, (context: CommandContext) => Promise<number>>;
