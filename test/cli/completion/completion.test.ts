import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { COMMAND_HELP } from '../../../src/cli/command-help.ts';
import { COMMANDS } from '../../../src/cli/command-names.ts';
import { bashScript } from '../../../src/cli/completion/bash.ts';
import { completedCommands, settingFlags } from '../../../src/cli/completion/completed-words.ts';
import { completionCommand } from '../../../src/cli/completion/completion.ts';
import { fishScript } from '../../../src/cli/completion/fish.ts';
import { zshScript } from '../../../src/cli/completion/zsh.ts';
import { GATEWAYS } from '../../../src/cli/gateway-config/templates.ts';
import { SETTINGS } from '../../../src/config/schema.ts';
import { flagName } from '../../../src/config/setting-names.ts';
import { runCommand } from '../../fixtures/command.ts';
import { tempDir } from '../../fixtures/temp-dir.ts';

const FLAGS = Object.values(SETTINGS).map(setting => `--${flagName(setting)}`);

/** Returns what bash offers for the last word. `FILES` stands for bash's own completion. */
function offered(...words: string[]): string[] {
  const script = `${bashScript()}
    complete -p gatecar >&2 || exit 1
    compopt() { echo FILES; }
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _gatecar
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const out = execFileSync('bash', ['--norc', '-c', script, 'bash', 'gatecar', ...words], {
    encoding: 'utf8',
    stdio: 'pipe',
  });
  return out.split('\n').filter(word => word !== '');
}

/** Has a shell check the syntax of a script; `undefined` if the shell is not installed. */
function syntaxError(t: Test, shell: string, script: string): string | undefined {
  const { error, stderr } = spawnSync(shell, ['-n', join(tempDir(t, { script }), 'script')], { encoding: 'utf8' });
  return error === undefined ? stderr : undefined;
}

t.test('bash completes commands, flags, and values of flags in both forms', async t => {
  t.strictSame(offered(''), [...Object.keys(COMMANDS), 'help', 'version']);
  t.strictSame(offered('ch'), ['check']);
  t.strictSame(offered('serve', '--mo'), ['--mode']);
  t.strictSame(offered('--mo'), ['--mode'], 'also without a command');
  t.strictSame(offered('serve', '--mode', ''), ['tokenreview', 'format-only']);
  t.strictSame(offered('--mode', '=', ''), ['tokenreview', 'format-only']);
  t.strictSame(offered('serve', '--mode', '='), ['tokenreview', 'format-only']);
  t.strictSame(offered('serve', '--mode', '=', 'f'), ['format-only']);
  t.strictSame(offered('serve', '--policy-denied-status', ''), ['401', '403']);
  t.strictSame(offered('serve', '--cache-refresh-ahead', '=', 't'), ['true']);
  t.strictSame(offered('check', '--output', ''), ['text', 'json']);
  t.strictSame(offered('serve', '--listen', ''), [], 'a value that it cannot know');
});

t.test('bash offers every setting where settings are taken, and nowhere else', async t => {
  for (const { name, takesSettings } of completedCommands()) {
    const flags = offered(name, '--');
    for (const flag of FLAGS) t.equal(flags.includes(flag), takesSettings, `${name} ${flag}`);
    t.ok(flags.includes('--help'), name);
  }
});

t.test('bash completes operands: gateways, shells and files', async t => {
  t.strictSame(offered('gateway', ''), Object.keys(GATEWAYS));
  t.strictSame(offered('completion', ''), ['bash', 'zsh', 'fish']);
  t.strictSame(offered('explain', ''), ['FILES']);
  t.strictSame(offered('serve', '--kubeconfig', ''), ['FILES']);
  t.strictSame(offered('serve', ''), []);
});

t.test('the scripts are valid in their shells, if these are installed', async t => {
  t.equal(syntaxError(t, 'bash', bashScript()), '');
  for (const [shell, script] of [
    ['zsh', zshScript()],
    ['fish', fishScript()],
  ] as const) {
    const error = syntaxError(t, shell, script);
    t.equal(error ?? '', '', error === undefined ? `${shell} is not installed` : shell);
  }
});

t.test('the scripts of zsh and fish have every command, flag and gateway too', async t => {
  for (const { script, command, flag } of [
    { script: zshScript(), command: (name: string) => `'${name}:`, flag: (name: string) => `'${name}=` },
    {
      script: fishScript(),
      command: (name: string) => ` -a ${name} `,
      flag: (name: string) => ` -l ${name.slice(2)} `,
    },
  ]) {
    for (const name of Object.keys(COMMANDS)) t.match(script, command(name), name);
    for (const name of FLAGS) t.match(script, flag(name), name);
    t.match(script, Object.keys(GATEWAYS).join(' '));
    t.match(script, /tokenreview format-only/);
  }
});

t.test('every flag of a command’s own is in its help, and a switch of a setting takes its values', async t => {
  const help: Readonly<Record<string, string>> = COMMAND_HELP;
  for (const { name, flags } of completedCommands()) {
    for (const flag of flags.filter(one => one.name !== '--help')) t.match(help[name], flag.name, name);
  }
  t.match(
    settingFlags().find(({ name }) => name === '--cache-refresh-ahead'),
    { isSwitch: true, values: ['true', 'false'] },
  );
});

t.test('the command prints the script of the shell that is named', async t => {
  for (const [shell, script] of Object.entries({ bash: bashScript(), zsh: zshScript(), fish: fishScript() })) {
    t.strictSame(await runCommand(completionCommand, { args: [shell] }), { code: 0, out: script, err: '' });
  }
});

t.test('any other argument is an error of usage', async t => {
  const messageOf = async (...args: string[]) =>
    ((await t.rejects(runCommand(completionCommand, { args }), { name: 'UsageError' })) as Error).message;
  t.equal(await messageOf(), 'completion takes one name of bash, zsh, fish');
  t.equal(await messageOf('bash', 'zsh'), 'completion takes one name of bash, zsh, fish');
  t.equal(await messageOf('bsh'), '"bsh" is no known shell; did you mean bash? Known: bash, zsh, fish');
  t.equal(await messageOf('powershell'), '"powershell" is no known shell. Known: bash, zsh, fish');
});
