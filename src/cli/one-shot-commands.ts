import { checkCommand } from './check/check.ts';
import type { CommandContext } from './command.ts';
import { explainCommand } from './explain/explain.ts';
import { gatewayCommand } from './gateway-config/gateway-config.ts';

/** The commands that print a result and exit. Each returns its exit code. */
export const ONE_SHOT_COMMANDS = {
  check: checkCommand,
  explain: explainCommand,
  gateway: gatewayCommand,
} as const satisfies Record<string, (context: CommandContext) => Promise<number>>;
