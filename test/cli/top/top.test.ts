import t, { type Test } from 'tap';
import { topCommand } from '../../../src/cli/top/top.ts';
import { runCommand } from '../../fixtures/command.ts';
import { startWithFakeApi } from '../../fixtures/gatecar.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { type Behaviour, startStandIn } from '../../fixtures/stand-in-api-server.ts';

async function startServer(t: Test) {
  const gatecar = await startWithFakeApi({});
  t.teardown(() => gatecar.stop());
  return gatecar;
}

/** Another program that answers a scrape so. */
async function other(t: Test, metrics: Behaviour) {
  const program = await startStandIn(() => {});
  t.teardown(() => program.close());
  program.documents['/metrics'] = metrics;
  return program;
}

class Stopped extends Error {}

/** Runs `gatecar top` for as many pages as there are steps, each of which is done after a page. */
async function pages(args: string[], steps: (() => unknown)[], isTerminal = false): Promise<string> {
  let out = '';
  const left = [...steps];
  const command = (context: Parameters<typeof topCommand>[0]) => {
    const writeNow = async (text: string) => {
      out += text;
    };
    return topCommand({ ...context, terminal: { ...context.terminal, writeNow } }, async ms => {
      t.equal(ms, 1000);
      const step = left.shift();
      if (step === undefined) throw new Stopped();
      await step();
    });
  };
  const ended = await runCommand(command, { args, isTerminal }).catch((error: unknown) => error);
  t.ok(ended instanceof Stopped, `it runs until it is stopped: ${JSON.stringify(ended)}`);
  return out;
}

t.test('--once prints one page of a running gatecar', async t => {
  const { ops, auth, token } = await startServer(t);
  await sendRequest(auth, { token: token() });
  await sendRequest(auth, { token: token({ namespace: 'ci', expiresInSeconds: -3600 }) });
  const { code, out } = await runCommand(topCommand, { args: [`--url=${ops}`, '--once'], isTerminal: true });
  t.equal(code, 0);
  t.match(out, /^\u001b\[1mgatecar \d/, 'without clearing the screen');
  t.match(out, /allow .* \d+\.\d +50\.0 %/);
  t.match(out, /token_rejected +\d/);
  t.match(out, 'API server reachable');
});

t.test('the address is that of the settings if there is no URL', async t => {
  const { ops } = await startServer(t);
  const listen = ops.replace('http://', '');
  t.match(await runCommand(topCommand, { args: ['--once', `--ops-listen=${listen}`] }), {
    code: 0,
    out: `at ${ops}, up`,
  });
});

t.test('without a terminal it prints one page after the other, without escape codes', async t => {
  const { ops, auth, token } = await startServer(t);
  const out = await pages([`--url=${ops}`], [() => sendRequest(auth, { token: token() })]);
  t.equal(out.match(/DECISIONS/g)?.length, 2);
  t.match(out, /0\.0\n\ngatecar /, 'with an empty line in between');
  t.match(out, /; last \d+ s\n[\s\S]*\nallow +\d+\.\d +100\.0 %/);
  t.notMatch(out, '\u001b');
});

t.test('on a terminal it redraws the page in place', async t => {
  const { ops } = await startServer(t);
  const out = await pages([`--url=${ops}`], [() => {}], true);
  t.equal(out.match(/\u001b\[2J/g)?.length, 1, 'the screen is cleared once');
  t.equal(out.match(/\u001b\[H/g)?.length, 2);
  t.match(out, /reachable\u001b\[0m\u001b\[K\n/);
});

t.test('a gatecar that does not answer at first is an error', async t => {
  const { code, out, err } = await runCommand(topCommand, { args: ['--url=http://127.0.0.1:1'] });
  t.strictSame([code, out], [1, '']);
  t.match(err, /^gatecar: cannot read http:\/\/127\.0\.0\.1:1\/metrics: .*ECONNREFUSED/);
});

t.test(
  'a gatecar that answers no more is reported on its last page, in place of the state of the API server',
  async t => {
    const gatecar = await startWithFakeApi({});
    const out = await pages([`--url=${gatecar.ops}`], [() => gatecar.stop(), () => {}]);
    t.equal(out.match(/DECISIONS/g)?.length, 3);
    t.equal(out.match(/^API server reachable$/gm)?.length, 1, 'only on the first page');
    t.equal(out.match(/; .*\ncannot read \/metrics: .+\n\nDECISIONS/g)?.length, 2);
    t.match(out, 'ECONNREFUSED');
  },
);

t.test('the metrics of another program are not shown', async t => {
  const { url } = await other(t, (_request, response) => response.end('up 1\n'));
  const ended = await runCommand(topCommand, { args: [`--url=${url}`, '--once'] });
  t.strictSame(ended, { code: 1, out: '', err: `gatecar: cannot read ${url}/metrics: no metrics of gatecar\n` });
});

t.test('rates start again after a restart of gatecar', async t => {
  const build = 'gatecar_build_info{version="1"} 1\n';
  let start = 1000;
  const { url } = await other(t, (_request, response) => {
    response.end(`${build}process_start_time_seconds ${start}\n`);
  });
  const out = await pages(
    [`--url=${url}`],
    [
      () => {},
      () => {
        start = 2000;
      },
    ],
  );
  t.strictSame(
    [...out.matchAll(/; (since|last)/g)].map(([, word]) => word),
    ['since', 'last', 'since'],
  );
});

t.test('operands and a value of --once are errors of usage', async t => {
  for (const args of [['x'], ['--once=no'], ['--once', 'x']]) {
    await t.rejects(runCommand(topCommand, { args }), { name: 'UsageError', message: /^top takes --url, --once/ });
  }
  await t.rejects(runCommand(topCommand, { args: ['--nonsense=1'] }), { name: 'ConfigError' });
});
