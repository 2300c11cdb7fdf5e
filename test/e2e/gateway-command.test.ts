import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { startDevAuthority } from '../../src/dev/authority.ts';
import { tokenIssuer } from '../../src/dev/token-issuer.ts';
import { ask } from '../fixtures/ask.ts';
import { startApplication } from './fixtures/support/application.ts';
import { startCaddy } from './fixtures/support/caddy.ts';
import { createAuthority, createClientCertificate, createServerCertificate } from './fixtures/support/certificates.ts';
import { startEnvoyAt } from './fixtures/support/envoy.ts';
import { freePort } from './fixtures/support/free-port.ts';
import { runGatecar } from './fixtures/support/gatecar-command.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { startHaproxy } from './fixtures/support/haproxy.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { nginxMissing, replaceOnce, startNginx } from './fixtures/support/nginx.ts';

// What `gatecar gateway` prints for settings that are not the default, run by the real gateways as it is but for their own
// address, that of the application, and certificates.

type Print = (...args: string[]) => Promise<string>;

/** From what is printed to a gateway that runs, before an application, `host:port`. */
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

t.test('what is printed runs', { skip: skipWithout(missing) }, async t => {
  const authority = await startDevAuthority({ issuer });
  t.teardown(() => authority.close());
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
  const gatecars = await createAuthority(join(directory, 'ca'), 'gatecar');
  const server = await createServerCertificate(join(directory, 'server'), gatecars);
  const client = await createClientCertificate(join(directory, 'client'), gatecars, 'gateway', []);
  await writeFile(
    join(directory, 'client.pem'),
    (await readFile(client.certFile, 'utf8')) + (await readFile(client.keyFile, 'utf8')),
  );
  listeners['over mutual TLS'] = {
    GATECAR_LISTEN: `127.0.0.1:${await freePort()}`,
    GATECAR_GRPC_LISTEN: `:${await freePort()}`,
    GATECAR_TLS_CERT_FILE: server.certFile,
    GATECAR_TLS_KEY_FILE: server.keyFile,
    GATECAR_TLS_CLIENT_CA_FILE: gatecars.certFile,
  };
  /** Where the texts expect certificates, and whose. */
  const given: Record<string, string> = {
    ...{ '/tls/ca.crt': gatecars.certFile, '/tls/tls.pem': join(directory, 'client.pem') },
    ...{
      '/tls/tls.crt': client.certFile,
      '/tls/tls.key': client.keyFile,
      'gatecar.gatecar.svc': 'kubernetes.default.svc',
    },
  };

  for (const [where, addresses] of Object.entries(listeners)) {
    const settings = {
      ...addresses,
      GATECAR_OPS_LISTEN: '127.0.0.1:0',
      GATECAR_KUBE_API_URL: authority.url,
      GATECAR_IDENTITY_HEADER_PREFIX: 'X-Bind-',
    };
    await startGatecar(t, settings);
    const print: Print = async (...args) => {
      const { code, out, err } = await runGatecar(['gateway', ...args], settings);
      if (code !== 0) throw new Error(err);
      return Object.entries(given).reduce((text, [written, real]) => text.replaceAll(written, real), out);
    };
    for (const [name, start] of Object.entries(START)) {
      await t.test(`${name}, with gatecar ${where}`, async t => {
        const application = await startApplication(t);
        const { url } = await start(t, print, new URL(application.url).host);
        const seen = () => application.requests.at(-1)?.headers;
        const forged = { 'X-Bind-User': 'forged', 'X-Bind-Pod': 'forged' };

        t.equal((await ask(url, { path: '/a', token, headers: forged })).status, 200);
        t.match(seen(), { 'x-bind-user': 'system:serviceaccount:ci:builder', 'x-bind-namespace': 'ci' });
        t.notOk(seen()?.['x-bind-pod'], 'what the client wrote is gone');

        const before = application.requests.length;
        t.equal((await ask(url, { path: '/a', headers: forged })).status, 401);
        t.equal((await ask(url, { path: '/a', token: elsewhere })).status, 401);
        t.equal(application.requests.length, before, 'who is denied does not reach the application');
      });
    }
  }
});
