import { join } from 'node:path';
import t from 'tap';
import { checkCommand } from '../../../src/cli/check/check.ts';
import { explainCommand } from '../../../src/cli/explain/explain.ts';
import { ONE_SHOT_COMMANDS } from '../../../src/cli/one-shot-commands.ts';
import { type CommandOptions, runCommand } from '../../fixtures/command.ts';
import { leaked, newJwt, newOpaque } from '../../fixtures/find-token.ts';
import { everyOutage } from '../../fixtures/outages.ts';
import { accepts, answers, type Behaviour, reviews, startStandIn } from '../../fixtures/stand-in-api-server.ts';
import { tempDir } from '../../fixtures/temp-dir.ts';

// Operators paste the output of commands into chats. It must not contain the token under test,
// gatecar's own credential or a secret of the settings, whatever the API server returns.

type Command = (typeof ONE_SHOT_COMMANDS)['check'];

/** Returns all output of a command, including its error, in both formats. */
async function outputOf(command: Command, options: CommandOptions): Promise<string> {
  let all = '';
  for (const output of ['text', 'json']) {
    const args = [...(options.args ?? []), `--output=${output}`];
    await runCommand(command, { ...options, args }).then(
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

/** API servers that repeat what they received in fields that gatecar reads. */
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
  t.test(`with ${kind}, no command prints a token, whatever the API server returns`, async t => {
    const credentials = { token: newJwt(), header: newOpaque() };
    const files = tempDir(t, credentials);
    for (const behaviour of [accepts(), ...echoes, ...everyOutage.map(outage => outage.behaviour)]) {
      const standIn = await startStandIn(behaviour);
      t.teardown(() => standIn.close());
      const env = {
        GATECAR_KUBE_API_URL: standIn.url,
        GATECAR_KUBE_TOKEN_FILE: join(files, 'token'),
        GATECAR_KUBE_HEADERS: `x-proxy-token=@${join(files, 'header')}`,
        GATECAR_REVIEW_TIMEOUT: '100ms',
        GATECAR_LISTEN: '127.0.0.1:0',
        GATECAR_OPS_LISTEN: '127.0.0.1:0',
      };
      const token = newToken();
      const text = (await outputOf(explainCommand, { env, input: token })) + (await outputOf(checkCommand, { env }));
      t.match(text, /"decision"[\s\S]*"findings"/);
      t.equal(leaked(text, [token, credentials.token, credentials.header]), undefined);
    }
  });

  t.test(`with ${kind}, no command repeats a token that was passed as a wrong argument`, async t => {
    for (const command of Object.values(ONE_SHOT_COMMANDS)) {
      const token = newToken();
      const argumentLists = [
        [token],
        ['-', token],
        [`--${token}`],
        ['--file', token],
        ['--token', token],
        [`--token=${token}`],
      ];
      for (const args of argumentLists) {
        t.equal(
          leaked(await outputOf(command, { args, input: token }), [token]),
          undefined,
          String(argumentLists.indexOf(args)),
        );
      }
    }
  });
}
