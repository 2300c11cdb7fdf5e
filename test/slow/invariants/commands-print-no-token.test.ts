import { join } from 'node:path';
import t from 'tap';
import { checkCommand } from '../../../src/cli/check/check.ts';
import { explainCommand } from '../../../src/cli/explain/explain.ts';
import { ONE_SHOT_COMMANDS } from '../../../src/cli/one-shot-commands.ts';
import { type CommandSurroundings, runCommand } from '../../fixtures/command.ts';
import { leaked, newJwt, newOpaque } from '../../fixtures/find-token.ts';
import { everyOutage } from '../../fixtures/outages.ts';
import { accepts, answers, type Behaviour, reviews, startStandIn } from '../../fixtures/stand-in-api-server.ts';
import { scratch } from '../../fixtures/temp-dir.ts';

// Whoever is on call pastes what a command printed into a chat: neither the token that is asked about, nor gatecar's own
// credential, nor a secret of the settings may be in it, whatever the API server says.

type Command = (typeof ONE_SHOT_COMMANDS)['check'];

/** All that a command says, its error too, in both forms. */
async function said(command: Command, surroundings: CommandSurroundings): Promise<string> {
  let all = '';
  for (const output of ['text', 'json']) {
    const args = [...(surroundings.args ?? []), `--output=${output}`];
    await runCommand(command, { ...surroundings, args }).then(
      ({ out, err }) => {
        all += out + err;
      },
      error => {
        all += String(error);
      },
    );
  }
  return all;
}

/** Says back all that it was sent, where a reader might take it for an answer. */
const echoes: readonly Behaviour[] = [
  (request, response) => {
    const { token, headers, body } = request;
    reviews({ error: `cannot verify ${token}, asked by ${headers.authorization}: ${body}` })(request, response);
  },
  (request, response) =>
    accepts({ user: { username: `x:${request.token}`, uid: String(request.headers.authorization) } })(
      request,
      response,
    ),
  (request, response) =>
    accepts({ user: { username: 'x', groups: [String(request.headers.authorization)] } })(request, response),
  ...[200, 201, 401, 403, 500].map(
    (status): Behaviour =>
      (request, response) => {
        const headers = { date: String(request.token), 'retry-after': String(request.headers.authorization) };
        answers(status, `${request.body} ${JSON.stringify(request.headers)}`, headers)(request, response);
      },
  ),
];

for (const [kind, newToken] of Object.entries({ 'a JWT': newJwt, 'an opaque token': newOpaque })) {
  t.test(`with ${kind}, no command prints a token, whatever is answered`, async t => {
    const own = { token: newJwt(), header: newOpaque() };
    const files = scratch(t, own);
    for (const behaviour of [accepts(), ...echoes, ...everyOutage.map(one => one.behaviour)]) {
      const standIn = await startStandIn(behaviour);
      t.teardown(() => standIn.close());
      const env = {
        GATECAR_KUBE_API_URL: standIn.url,
        GATECAR_KUBE_TOKEN_FILE: join(files, 'token'),
        GATECAR_KUBE_HEADERS: `x-proxy-token=@${join(files, 'header')}`,
        GATECAR_REVIEW_TIMEOUT: '100ms',
        ...{ GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0' },
      };
      const token = newToken();
      const text = (await said(explainCommand, { env, input: token })) + (await said(checkCommand, { env }));
      t.match(text, /"decision"[\s\S]*"findings"/);
      t.equal(leaked(text, [token, own.token, own.header]), undefined);
    }
  });

  t.test(`with ${kind}, none repeats one that was given where it does not belong`, async t => {
    for (const command of Object.values(ONE_SHOT_COMMANDS)) {
      const token = newToken();
      const ways = [[token], ['-', token], [`--${token}`], ['--file', token], ['--token', token], [`--token=${token}`]];
      for (const args of ways) {
        t.equal(leaked(await said(command, { args, input: token }), [token]), undefined, String(ways.indexOf(args)));
      }
    }
  });
}
