import { checkCommand } from './check/check.ts';
import type { CommandContext } from './command.ts';
import { completionCommand } from './completion/completion.ts';
import { explainCommand } from './explain/explain.ts';
import { gatewayCommand } from './gateway-config/gateway-config.ts';
import { topCommand } from './top/top.ts';

/** The commands that print a result and exit. Each returns its exit code. */
export const ONE_SHOT_COMMANDS = {
  check: checkCommand,
  explain: explainCommand,
  gateway: gatewayCommand,
  top: topCommand,
  completion: completionCommand,
} as const satisfies Record<string, (context: CommandContext) => Promise<number>>;
