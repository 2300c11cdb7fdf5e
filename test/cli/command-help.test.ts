import t from 'tap';
import { COMMAND_HELP } from '../../src/cli/command-help.ts';
import { COMMANDS } from '../../src/cli/command-names.ts';
import { ONE_SHOT_COMMANDS } from '../../src/cli/one-shot-commands.ts';
import { help } from '../../src/config/help.ts';

t.test('every one-shot command has a help text with usage, example and exit codes', async t => {
  t.strictSame(Object.keys(COMMAND_HELP).sort(), Object.keys(ONE_SHOT_COMMANDS).sort());
  for (const [name, text] of Object.entries(COMMAND_HELP)) {
    t.ok(text.startsWith(`gatecar ${name}: ${COMMANDS[name as keyof typeof COMMANDS]}.\n`), name);
    t.match(text, `\nUsage: gatecar ${name}`);
    t.match(text, new RegExp(`^Example: .*gatecar ${name}.*$`, 'm'));
    t.match(text, '\nExit code: ');
    t.match(text, /[^\n]\n$/);
    for (const line of text.split('\n')) t.ok(line.length <= 110, line);
    t.match(help(COMMANDS), `  ${name} `, 'the help of gatecar lists the command');
  }
});
