import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { gatewayCommand } from '../../src/cli/gateway-config/gateway-config.ts';
import { startFakeApiServer } from '../../src/dev/fake-api-server.ts';
import { tokenIssuer } from '../../src/dev/token-issuer.ts';
import { runCommand } from '../fixtures/command.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { startApplication } from './fixtures/support/application.ts';
import { startCaddy } from './fixtures/support/caddy.ts';
import { createAuthority, createClientCertificate, createServerCertificate } from './fixtures/support/certificates.ts';
import { startEnvoyAt } from './fixtures/support/envoy.ts';
import { freePort } from './fixtures/support/free-port.ts';
import { runGatecar } from './fixtures/support/gatecar-command.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayBinary, gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { startHaproxy } from './fixtures/support/haproxy.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';

// Real gateways run the output of `gatecar gateway` for non-default settings. Only their own
// address, the application's address and certificates are replaced.

type Print = (...args: string[]) => Promise<string>;

/** Starts a gateway with the printed configuration, in front of an application (`host:port`). */
const START: Record<string, (t: Test, print: Print, application: string) => Promise<{ url: string }>> = {
  nginx: async (t, print, application) =>
    startNginx(t, replaceOnce(await print('nginx'), 'server 127.0.0.1:8000;', `server ${application};`)),
  'envoy-http': async (t, print, application) =>
    startEnvoyAt(t, await print('envoy-http'), '0.0.0.0:8080', { '127.0.0.1:8000': application }),
  'envoy-grpc': async (t, print, application) =>
    startEnvoyAt(t, await print('envoy-grpc'), '0.0.0.0:8080', { '127.0.0.1:8000': application }),
  caddy: async (t, print, application) => startCaddy(t, await print('caddy'), { application }),
  haproxy: async (t, print, application) => {
    const [config, lua] = [await print('haproxy'), await print('haproxy', 'gatecar.lua')];
    return startHaproxy(t, { config, lua }, { application });
  },
};

const issuer = tokenIssuer();
const identity = { namespace: 'ci', serviceAccount: 'builder' };
const token = issuer.issue({ ...identity, audiences: ['bindcar'] });
const elsewhere = issuer.issue({ ...identity, audiences: ['elsewhere'] });

const missing = nginxMissing() ?? gatewayMissing('envoy') ?? gatewayMissing('caddy') ?? gatewayMissing('haproxy');

t.test('the printed configurations run in real gateways', { skip: skipWithout(missing) }, async t => {
  const apiServer = await startFakeApiServer({ issuer });
  t.teardown(() => apiServer.close());
  const directory = await mkdtemp(join(tmpdir(), 'gatecar-e2e-socket-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));

  const listeners: Record<string, Record<string, string>> = {
    'on ports': {
      GATECAR_LISTEN: `127.0.0.1:${await freePort()}`,
      GATECAR_GRPC_LISTEN: `:${await freePort()}`,
    },
    'on Unix sockets': {
      GATECAR_LISTEN: `unix:${join(directory, 'auth')}`,
      GATECAR_GRPC_LISTEN: `unix:${join(directory, 'grpc')}`,
    },
  };
  const ca = await createAuthority(join(directory, 'ca'), 'gatecar');
  const server = await createServerCertificate(join(directory, 'server'), ca);
  const client = await createClientCertificate(join(directory, 'client'), ca, 'gateway', []);
  await writeFile(
    join(directory, 'client.pem'),
    (await readFile(client.certFile, 'utf8')) + (await readFile(client.keyFile, 'utf8')),
  );
  listeners['over mutual TLS'] = {
    GATECAR_LISTEN: `127.0.0.1:${await freePort()}`,
    GATECAR_GRPC_LISTEN: `:${await freePort()}`,
    GATECAR_TLS_CERT_FILE: server.certFile,
    GATECAR_TLS_KEY_FILE: server.keyFile,
    GATECAR_TLS_CLIENT_CA_FILE: ca.certFile,
  };
  /** The certificate paths in the printed configurations, with the files to use instead. */
  const replacements: Record<string, string> = {
    '/tls/ca.crt': ca.certFile,
    '/tls/tls.pem': join(directory, 'client.pem'),
    '/tls/tls.crt': client.certFile,
    '/tls/tls.key': client.keyFile,
    'gatecar.gatecar.svc': 'kubernetes.default.svc',
  };

  for (const [address, listenerSettings] of Object.entries(listeners)) {
    const settings = {
      ...listenerSettings,
      GATECAR_OPS_LISTEN: '127.0.0.1:0',
      GATECAR_KUBE_API_URL: apiServer.url,
      GATECAR_IDENTITY_HEADER_PREFIX: 'X-Bind-',
    };
    await startGatecar(t, settings);
    const print: Print = async (...args) => {
      const { code, out, err } = await runGatecar(['gateway', ...args], settings);
      if (code !== 0) throw new Error(err);
      return Object.entries(replacements).reduce((text, [written, real]) => text.replaceAll(written, real), out);
    };
    for (const [name, start] of Object.entries(START)) {
      await t.test(`${name}: the printed configuration works with gatecar ${address}`, async t => {
        const application = await startApplication(t);
        const { url } = await start(t, print, new URL(application.url).host);
        const receivedHeaders = () => application.requests.at(-1)?.headers;
        const clientHeaders = { 'X-Bind-User': 'forged', 'X-Bind-Pod': 'forged' };

        t.equal((await sendRequest(url, { path: '/a', token, headers: clientHeaders })).status, 200);
        t.match(receivedHeaders(), { 'x-bind-user': 'system:serviceaccount:ci:builder', 'x-bind-namespace': 'ci' });
        t.notOk(receivedHeaders()?.['x-bind-pod'], 'the client’s header is removed');

        const before = application.requests.length;
        t.equal((await sendRequest(url, { path: '/a', headers: clientHeaders })).status, 401);
        t.equal((await sendRequest(url, { path: '/a', token: elsewhere })).status, 401);
        t.equal(application.requests.length, before, 'denied requests do not reach the application');
      });
    }
  }
});

/** Socket paths with characters that are special for some parser. */
const SPECIAL_PATHS = [
  '/run/a b',
  '/run/a"b',
  "/run/a'b",
  '/run/a\\b',
  '/run/a\\',
  '/run/a\\"b',
  '/run/$HOME',
  '/run/$' + '{HOME}',
  '/run/{$HOME}',
  '/run/{env.HOME}',
  '/run/a}b{',
  '/run/%d%20',
  '/run/a#b',
  '/run/a;b',
  '/run/a`b',
  '/run/a|0220',
  '/run/a,b@c:80',
  '/run/ä漢😀',
  '/run/a\u0085b\u2028c\ufeff',
] as const;

interface Printed {
  readonly out: string;
  readonly rejection?: string;
}

/** Returns what the command prints, or the error with which it ends. */
async function printConfig(name: string, setting: string, address: string): Promise<Printed> {
  try {
    return await runCommand(gatewayCommand, { args: [name], env: { [setting]: address } });
  } catch (error) {
    return { out: '', rejection: String(error) };
  }
}

interface Parsed {
  readonly code: number;
  readonly messages: string;
  readonly stdout: string;
}

/** Checks a configuration with the gateway's own parser. Returns its exit code and its output. */
async function parseConfig(t: Test, name: string, config: string): Promise<Parsed> {
  const directory = tempDir(t, { 'config.yaml': config });
  const file = join(directory, 'config.yaml');
  const commands: Record<string, readonly [program: string, ...args: string[]]> = {
    nginx: ['nginx', '-t', '-p', directory, '-e', join(directory, 'error.log'), '-c', file],
    'envoy-http': ['envoy', '--mode', 'validate', '--log-level', 'error', '-c', file],
    'envoy-grpc': ['envoy', '--mode', 'validate', '--log-level', 'error', '-c', file],
    caddy: ['caddy', 'adapt', '--validate', '--config', file, '--adapter', 'caddyfile'],
    haproxy: ['haproxy', '-c', '-f', file],
  };
  const [program, ...args] = commands[name] as readonly [string, ...string[]];
  const options = { env: { ...process.env, HOME: '/home-of-the-gateway' } };
  return new Promise(resolve => {
    execFile(gatewayBinary(program as 'nginx') ?? program, args, options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), messages: stdout + stderr, stdout }),
    );
  });
}

/** Replaces paths that exist only in an installation; the rest of the text stays. */
async function withLocalPaths(t: Test, name: string, config: string): Promise<string> {
  if (name !== 'haproxy') return config;
  const lua = join(tempDir(t, { 'gatecar.lua': await readFile(HAPROXY_LUA, 'utf8') }), 'gatecar.lua');
  return replaceOnce(config, '/etc/haproxy/gatecar.lua', lua);
}

const HAPROXY_LUA = join(import.meta.dirname, '../../examples/haproxy/gatecar.lua');

for (const name of ['nginx', 'envoy-http', 'envoy-grpc', 'caddy', 'haproxy']) {
  const setting = name === 'envoy-grpc' ? 'GATECAR_GRPC_LISTEN' : 'GATECAR_LISTEN';

  t.test(
    `${name} reads every socket path as set, or the command rejects it`,
    { skip: skipWithout(missing) },
    async t => {
      // The titles do not contain the paths, because TAP escapes some characters.
      for (const [index, path] of SPECIAL_PATHS.entries()) {
        await t.test(`socket path ${index + 1} is read as set by ${name}, or rejected`, async t => {
          const { out, rejection } = await printConfig(name, setting, `unix:${path}`);
          if (rejection !== undefined) {
            t.match(rejection, new RegExp(`^UsageError: ${setting}: \\w+ cannot be given a socket path with `));
            return;
          }
          const { code: status, messages, stdout } = await parseConfig(t, name, await withLocalPaths(t, name, out));
          t.equal(status, 0, messages.slice(0, 2000));
          t.notMatch(messages, '/home-of-the-gateway');
          if (name === 'caddy') t.match(JSON.stringify(JSON.parse(stdout)), `"dial":${JSON.stringify(`unix/${path}`)}`);
        });
      }
    },
  );

  t.test(`${name} accepts every valid address, or the command rejects it`, { skip: skipWithout(missing) }, async t => {
    for (const address of ['127.0.0.1:9', '[::1]:9', '[2001:db8::1]:9', ':9', 'localhost:9', 'some_host-1.invalid:9']) {
      const { out, rejection } = await printConfig(name, setting, address);
      t.equal(rejection, undefined);
      const { code: status, messages } = await parseConfig(t, name, await withLocalPaths(t, name, out));
      // nginx and HAProxy resolve host names when they parse the configuration.
      const isUnknown = /host not found in upstream|could not resolve address/.test(messages);
      t.ok(status === 0 || (address.includes('invalid') && isUnknown), `${address}: ${messages.slice(0, 2000)}`);
    }
    for (const address of [':0', '[fe80::1%eth0]:9']) {
      t.match((await printConfig(name, setting, address)).rejection, `UsageError: ${setting}: `);
    }
  });
}
