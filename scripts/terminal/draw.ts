// Draws docs/images/terminal-*.svg from what the commands really print on a terminal. The ports are
// those of `gatecar dev`; they must be free. Run it after a change of such a page.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { VERSION } from '../../src/app.ts';
import { checkCommand } from '../../src/cli/check/check.ts';
import type { CommandContext } from '../../src/cli/command.ts';
import { explainCommand } from '../../src/cli/explain/explain.ts';
import { topCommand } from '../../src/cli/top/top.ts';
import { dev } from '../../src/dev/dev.ts';
import { COLUMNS, terminalPicture } from './picture.ts';

const folder = join(import.meta.dirname, '../../docs/images');

/** Runs a command as on a terminal, and returns what it prints. */
async function run(command: (context: CommandContext) => Promise<unknown>, args: string[]): Promise<string> {
  let out = '';
  const write = (text: string): void => {
    out += text;
  };
  const terminal = {
    write,
    writeNow: async (text: string) => write(text),
    complain: write,
    readInput: async () => Buffer.alloc(0),
    isTerminal: true,
    width: COLUMNS,
  };
  const runtimeEnvironment = { inCluster: undefined, homeDirectory: undefined };
  await command({ args, env: {}, runtimeEnvironment, version: VERSION, terminal });
  return out;
}

/** Sends requests for some seconds, most of them with the valid token. */
async function sendTraffic(url: string, headers: readonly string[], seconds: number): Promise<void> {
  for (const until = Date.now() + seconds * 1000; Date.now() < until; ) {
    const mix = Array.from({ length: 40 }, (_, at) => headers[at % 10 === 9 ? 1 + (at % 3) : 0] ?? '');
    mix.push(`Bearer unknown-${Date.now()}`);
    await Promise.all(mix.map(authorization => fetch(url, { headers: { authorization } })));
    await wait(50);
  }
}

class Recorded extends Error {}

/** Returns the page of `gatecar top` after some seconds of traffic. */
async function recordTop(url: string): Promise<string> {
  let pages = 0;
  let page = '';
  const command = (context: CommandContext) => {
    const writeNow = async (text: string): Promise<void> => {
      page = text;
    };
    return topCommand({ ...context, terminal: { ...context.terminal, writeNow } }, async ms => {
      pages += 1;
      if (pages === 5) throw new Recorded();
      await wait(ms);
    });
  };
  await run(command, [`--url=${url}`]).catch(error => {
    if (!(error instanceof Recorded)) throw error;
  });
  return page;
}

let devPage = '';
const running = await dev(['--cache-ttl=1s'], {}, { isTerminal: true, write: text => (devPage += text) });
try {
  const [directory = ''] = /\/\S+\/gatecar-dev-\w+/.exec(devPage) ?? [];
  const [apiServer = ''] = /(?<=API server +)http:\S+/.exec(devPage) ?? [];
  const files = ['valid', 'audience', 'namespace', 'expired'].map(name => join(directory, name));
  const expired = files[3] ?? '';
  const headers = await Promise.all(
    files.map(async file => (await readFile(file, 'utf8')).trim().replace('Authorization: ', '')),
  );
  const ops = `http://${running.ops}`;
  const [top] = await Promise.all([recordTop(ops), sendTraffic(`http://${running.auth}/auth`, headers, 6)]);
  const setting = `--kube-api-url=${apiServer}`;
  const pages: Readonly<Record<string, [title: string, text: string]>> = {
    dev: ['npm run dev', devPage],
    check: [`gatecar check ${setting}`, await run(checkCommand, [setting])],
    explain: [`gatecar explain ${setting} ${expired}`, await run(explainCommand, [setting, expired])],
    top: [`gatecar top --url=${ops}`, top],
  };
  await mkdir(folder, { recursive: true });
  for (const [name, [title, text]] of Object.entries(pages)) {
    await writeFile(join(folder, `terminal-${name}.svg`), terminalPicture(title, text.replace(/^\n/, '')));
  }
} finally {
  await running.stop();
}
