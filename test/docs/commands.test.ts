import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { dev } from '../../src/dev/dev.ts';
import { startWithFakeApi, type TestGatecarWithFakeApi } from '../fixtures/gatecar.ts';
import { type CodeBlock, codeBlocks } from '../fixtures/markdown.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { until } from '../fixtures/until.ts';

// Every command of README.md and docs/ runs here, or is marked with where it runs or what it needs.

const ROOT = join(import.meta.dirname, '../..');
const PAGES = ['README.md', ...globSync('docs/**/*.md', { cwd: ROOT }).sort()];
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const blocksOf = (page: string): CodeBlock[] => codeBlocks(read(page));
const shellBlocks = PAGES.flatMap(page =>
  blocksOf(page)
    .filter(({ language }) => /^(sh|bash|shell|console)$/.test(language))
    .map(block => ({ ...block, page })),
);

const CLUSTER = 'needs a cluster';
const RELEASE = 'needs a release';
const CI = 'run by .ci/run';

/** Commands in whose place CI runs another one, with the same effect and more. */
const RUN_AS: Readonly<Record<string, string>> = { 'npm test': 'npm run test:coverage' };

/** The blocks that run here, and what each prints. */
const PRINTS: Readonly<Record<string, (gatecar: TestGatecarWithFakeApi) => RegExp>> = {
  [`curl -s http://127.0.0.1:9081/metrics | grep '^gatecar_requests_total'\n`]: () =>
    /^gatecar_requests_total\{protocol="http",decision="deny",reason="namespace_denied"\} 1$/m,
  ['printf %s "$TOKEN" | sha256sum | cut -c1-12\n']: gatecar => new RegExp(`^${fingerprintOfDenied(gatecar)}\n$`),
  ['node src/main.ts gateway nginx --listen=gatecar.gatecar.svc:9080\n']: () => /server gatecar\.gatecar\.svc:9080;/,
};

/** Returns the fingerprint in the log line of a denied request. */
function fingerprintOfDenied(gatecar: TestGatecarWithFakeApi): string {
  return String(gatecar.logs().find(({ reason }) => reason === 'namespace_denied')?.['token']);
}

async function runShell(text: string, env: Readonly<Record<string, string>>): Promise<string> {
  const path = `${dirname(process.execPath)}:${process.env['PATH']}`;
  const options = { cwd: ROOT, env: { PATH: path, ...env }, timeout: 30_000 };
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', text], options);
  return stdout;
}

t.test('every block of commands is run by a test, or is marked', async t => {
  t.ok(shellBlocks.length > 20, `${shellBlocks.length} blocks`);
  for (const { page, line, text, marker } of shellBlocks) {
    const isMarked = [CLUSTER, RELEASE, CI].includes(marker);
    t.notSame(isMarked, Object.hasOwn(PRINTS, text), `${page}:${line}: ${marker}`);
  }
  for (const text of Object.keys(PRINTS))
    t.ok(
      shellBlocks.some(block => block.text === text),
      text,
    );
});

t.test('blocks with commands of a cluster have their marker', async t => {
  for (const { page, line, text, marker } of shellBlocks)
    if (/\b(kubectl|helm|docker)\b/.test(text) && marker !== RELEASE) t.equal(marker, CLUSTER, `${page}:${line}`);
});

t.test('.ci/run runs the blocks that it is said to run', async t => {
  const script = read('.ci/run');
  const blocks = shellBlocks.filter(({ marker }) => marker === CI);
  t.ok(blocks.length > 0);
  for (const { page, line, text } of blocks)
    for (const command of text.trim().split(' && '))
      t.ok(script.includes(RUN_AS[command] ?? command), `${page}:${line}: ${command}`);
});

t.test('blocks without a marker run as written, on the embedded fake API server', async t => {
  const gatecar = await startWithFakeApi({ GATECAR_ALLOWED_NAMESPACES: 'ci' });
  t.teardown(() => gatecar.stop());
  const TOKEN = gatecar.token();
  // On a busy machine, the first request may be answered as overloaded.
  await until(async () => (await sendRequest(gatecar.auth, { token: TOKEN })).status === 401);
  for (const [text, prints] of Object.entries(PRINTS)) {
    const here = text
      .replaceAll('http://127.0.0.1:9080', gatecar.auth)
      .replaceAll('http://127.0.0.1:9081', gatecar.ops);
    t.match(await runShell(here, { TOKEN }), prints(gatecar), text);
  }
});

/** Asserts that a block has lines, and that each of them, up to its `…`, is a line of a text. */
function isExcerpt(t: Test, block: string, text: string): void {
  const lines = text.split(/\r?\n/);
  const shown = block.split('\n').filter(one => one !== '' && one !== '…');
  t.ok(shown.length > 0, 'the block has lines');
  for (const line of shown) {
    const [start = '', end = ''] = line.split('…');
    t.ok(
      lines.some(one => one.startsWith(start) && (line.includes('…') ? one.endsWith(end) : one === line)),
      line,
    );
  }
}

t.test(
  'the README shows what `npm run dev` prints on a terminal without colours, and what its first line of curl answers',
  async t => {
    const listeners = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0', GATECAR_LOG_LEVEL: 'silent' };
    let printed = '';
    const write = (text: string) => {
      printed += text;
    };
    const running = await dev([], { ...listeners, NO_COLOR: '1' }, { write, isTerminal: true });
    t.teardown(() => running.stop());
    const curl = /^curl .*$/m.exec(printed)?.[0] ?? '';
    const usual = printed.replaceAll(running.auth, '127.0.0.1:9080').replaceAll(running.ops, '127.0.0.1:9081');
    const [output, answer] = ['text', 'http'].map(language =>
      blocksOf('README.md').find(one => one.language === language),
    );
    isExcerpt(t, output?.text ?? '', usual);
    let reply = '';
    await until(async () => {
      reply = await runShell(`${curl} -s`, {});
      return reply.startsWith('HTTP/1.1 200');
    });
    isExcerpt(t, answer?.text ?? '', reply);
  },
);

t.test('docs/identity-headers.md shows the headers of a 200, in their order', async t => {
  const gatecar = await startWithFakeApi();
  t.teardown(() => gatecar.stop());
  const token = gatecar.token({ pod: 'my-app-0', node: 'dev-node' });
  await until(async () => (await sendRequest(gatecar.auth, { token })).status === 200);
  const { headers } = await sendRequest(gatecar.auth, { token });
  const shown = blocksOf('docs/identity-headers.md').find(({ language }) => language === 'http')?.text ?? '';
  const names = Array.from(shown.matchAll(/^([\w-]+):/gm), ([, name = '']) => name.toLowerCase());
  t.strictSame(
    names,
    Object.keys(headers).filter(name => /^(cache-control|x-)/.test(name)),
  );
});
