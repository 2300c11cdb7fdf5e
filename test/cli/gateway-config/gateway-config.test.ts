import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { gatewayCommand } from '../../../src/cli/gateway-config/gateway-config.ts';
import { examplesFolder, GATEWAYS } from '../../../src/cli/gateway-config/templates.ts';
import { IDENTITY_HEADERS } from '../../../src/identity/identity-headers.ts';
import { runCommand } from '../../fixtures/command.ts';

const EXAMPLES = join(import.meta.dirname, '../../../examples');
const example = (file: string) => readFileSync(join(EXAMPLES, file), 'utf8');

const print = (args: readonly string[], env: Record<string, string> = {}) => runCommand(gatewayCommand, { args, env });

const everyFile = Object.entries(GATEWAYS).flatMap(([name, { files }]) =>
  files.map((file): [name: string, file: string, base: string] => [name, file, file.slice(file.indexOf('/') + 1)]),
);

t.test('with default settings every file is the example, which the tests run', async t => {
  for (const [name, file, base] of everyFile) {
    t.match(await print([name, base]), { code: 0, out: example(file) }, file);
  }
});

t.test('every example of a gateway can be printed, whole', async t => {
  // What is no gateway's configuration: applications, clients, monitoring, and other ways to the API server.
  const others = ['bindcar', 'dapr', 'iot', 'kubectl-proxy', 'prometheus'];
  const files = globSync('*/*', { cwd: EXAMPLES }).filter(
    file => !others.includes(file.split('/')[0] ?? '') && !/\.md$/.test(file),
  );
  t.strictSame(files.sort(), everyFile.map(([, file]) => file).sort());
});

t.test('the address in force takes the place of the example’s, once, and nothing else changes', async t => {
  const asked: [name: string, setting: string, address: string, written: string][] = [
    ['nginx', 'GATECAR_LISTEN', ':7000', 'server 127.0.0.1:7000;'],
    ['nginx', 'GATECAR_LISTEN', '[::]:7000', 'server 127.0.0.1:7000;'],
    ['nginx', 'GATECAR_LISTEN', '[::1]:7000', 'server [::1]:7000;'],
    ['nginx', 'GATECAR_LISTEN', 'unix:/run/gate car', 'server "unix:/run/gate car";'],
    ['caddy', 'GATECAR_LISTEN', 'localhost:7000', 'forward_auth 127.0.0.1:7000 {'],
    ['caddy', 'GATECAR_LISTEN', 'unix:/run/gatecar', 'forward_auth "unix//run/gatecar" {'],
    ['haproxy', 'GATECAR_LISTEN', '10.0.0.1:7000', 'server gatecar 10.0.0.1:7000'],
    ['haproxy', 'GATECAR_LISTEN', 'unix:/run/gatecar', 'server gatecar "unix@/run/gatecar"'],
    ['envoy-http', 'GATECAR_LISTEN', '0.0.0.0:7000', 'socket_address: { address: 127.0.0.1, port_value: 7000 }'],
    ['envoy-http', 'GATECAR_LISTEN', '[::1]:7000', 'socket_address: { address: "::1", port_value: 7000 }'],
    ['envoy-http', 'GATECAR_LISTEN', 'unix:/run/gatecar', 'pipe: { path: "/run/gatecar" }'],
    ['envoy-grpc', 'GATECAR_GRPC_LISTEN', ':7002', 'socket_address: { address: 127.0.0.1, port_value: 7002 }'],
  ];
  for (const [name, setting, address, written] of asked) {
    const { files, asked } = GATEWAYS[name as 'nginx'];
    const [before, after, ...more] = example(files[0]).split(asked.written);
    t.equal(more.length, 0, `${name} has it once`);
    t.equal((await print([name], { [setting]: address })).out, `${before}${written}${after}`, `${name} ${address}`);
  }
});

t.test('an address that no gateway can ask is refused by the name of its setting', async t => {
  const message = 'GATECAR_LISTEN: :0 is another port each time; set the port that the gateway asks';
  await t.rejects(print(['nginx', '--listen=:0']), { name: 'UsageError', message });
  await t.rejects(print(['envoy-grpc', '--grpc-listen=:0']), { message: /^GATECAR_GRPC_LISTEN: :0 is another/ });
  for (const name of ['nginx', 'envoy-http', 'caddy', 'haproxy']) {
    await t.rejects(print([name, '--listen=[fe80::1%eth0]:9080']), { message: /^GATECAR_LISTEN: .* zone / }, name);
  }
});

t.test('a socket path is escaped for each gateway, and refused by the setting’s name if it cannot be', async t => {
  const line = async (name: string, path: string) => {
    const { out } = await print([name], { GATECAR_LISTEN: `unix:${path}` });
    return out
      .split('\n')
      .find(one => one.includes('/run/'))
      ?.trim();
  };
  t.equal(await line('nginx', '/run/a"\\$b'), 'server "unix:/run/a\\"\\\\$b";');
  t.equal(await line('haproxy', '/run/a"\\{b}'), 'server gatecar "unix@/run/a\\"\\\\{b}"');
  t.equal(await line('caddy', '/run/a"\\$b'), 'forward_auth `unix//run/a"\\$b` {');
  t.match(await line('envoy-http', '/run/a"\u0085\ufeffé'), 'pipe: { path: "/run/a\\"\\u0085\\ufeffé" }');
  for (const [name, path] of [
    ['haproxy', '/run/$HOME'],
    ['caddy', '/run/{$HOME}'],
    ['caddy', '/run/a|0220'],
    ['caddy', '/run/a"`b'],
    ['caddy', '/run/a`\\b'],
  ] as const) {
    await t.rejects(line(name, path), { message: /^GATECAR_LISTEN: \w+ cannot be given a socket path with / }, path);
  }
});

t.test('Envoy looks up a host name, and takes an IP address as it is', async t => {
  for (const [name, setting] of [
    ['envoy-http', 'GATECAR_LISTEN'],
    ['envoy-grpc', 'GATECAR_GRPC_LISTEN'],
  ] as const) {
    const { out } = await print([name], { [setting]: 'gatecar.example:7000' });
    t.match(out, /- name: gatecar\n {6}connect_timeout: 1s\n {6}type: STRICT_DNS\n/, name);
    t.match(out, 'socket_address: { address: gatecar.example, port_value: 7000 }');
    for (const address of ['10.0.0.1:7000', '[::1]:7000', 'localhost:7000', 'unix:/run/a']) {
      t.notMatch((await print([name], { [setting]: address })).out, 'STRICT_DNS', address);
    }
  }
});

t.test('where the listener has TLS, it is verified, and shown a certificate where it asks for one', async t => {
  const tls = ['--tls-cert-file=/c', '--tls-key-file=/k'];
  const verifies: Record<string, RegExp> = {
    nginx: /https:\/\/gatecar\/auth;[\s\S]*proxy_ssl_verify +on;[\s\S]*proxy_ssl_name +gatecar\.gatecar\.svc;/,
    'envoy-http': /UpstreamTlsContext[\s\S]*trusted_ca[\s\S]*exact: gatecar\.gatecar\.svc/,
    'envoy-grpc': /UpstreamTlsContext[\s\S]*trusted_ca[\s\S]*exact: gatecar\.gatecar\.svc/,
    caddy: /\n\t+tls\n\t+tls_trust_pool file \/tls\/ca\.crt\n\t+tls_server_name gatecar\.gatecar\.svc\n/,
    haproxy: /server gatecar 127\.0\.0\.1:9080 ssl verify required ca-file .* verifyhost gatecar\.gatecar\.svc/,
  };
  for (const [name, pattern] of Object.entries(verifies)) {
    const plain = (await print([name, ...tls])).out;
    const mutual = (await print([name, ...tls, '--tls-client-ca-file=/a'])).out;
    t.match(plain, pattern, name);
    t.match(mutual, pattern, name);
    t.notMatch(plain, '/tls/tls.', name);
    t.match(mutual, /\/tls\/tls\.(crt|pem)/, name);
    const kept = example(GATEWAYS[name as 'nginx'].files[0])
      .split('\n')
      .filter(line => !/gatecar\/auth;|server gatecar/.test(line));
    for (const line of kept) t.ok(plain.includes(line), `${name} keeps ${line}`);
  }
  t.equal((await print(['haproxy', 'gatecar.lua', ...tls])).out, example('haproxy/gatecar.lua'));
});

t.test('with another prefix no header name of the default one is left, in no way of writing it', async t => {
  for (const [name, file, base] of everyFile) {
    const { out } = await print([name, base, '--identity-header-prefix=X-Bind-']);
    t.notMatch(out, /x[-_]auth[-_]request[-_]/i, file);
    const names = IDENTITY_HEADERS.filter(one => example(file).includes(`X-Auth-Request-${one}`));
    for (const one of names) t.ok(out.includes(`X-Bind-${one}`), `${file}: ${one}`);
  }
  const { out } = await print(['nginx', '--identity-header-prefix=X-Bind-']);
  t.match(out, '$upstream_http_x_bind_service_account;');
  t.match((await print(['haproxy', '--identity-header-prefix=X-Bind-'])).out, 'lua.gatecar abns@gatecar x-bind-');
});

t.test('what it cannot know is said on standard error', async t => {
  const said = async (...args: string[]) => (await print(args)).err;
  t.equal(await said('nginx'), '');
  t.equal(await said('haproxy'), 'gatecar: more of it: gatecar gateway haproxy gatecar.lua\n');
  t.equal(await said('haproxy', 'gatecar.lua'), '');
  t.equal(await said('envoy-grpc'), 'gatecar: it asks over gRPC, which is off: GATECAR_GRPC_LISTEN=:9082\n');
  t.equal(await said('envoy-grpc', '--grpc-listen=:9082'), '');
  t.match(await said('ingress-nginx'), 'it asks a Service');
  const tls = ['--tls-cert-file=/c', '--tls-key-file=/k'];
  t.equal(await said('nginx', ...tls), "gatecar: it verifies gatecar's certificate: put in your own's name and CA\n");
  t.match(await said('traefik', ...tls), 'it asks without TLS');
});

t.test('a name that is not known is told with the nearest and with all that are', async t => {
  const message = /^"ngin" is no known gateway; did you mean nginx\? Known: nginx, envoy-http, /;
  await t.rejects(print(['ngin']), { name: 'UsageError', message });
  await t.rejects(print(['squid']), { message: /^"squid" is no known gateway\. Known: nginx/ });
  await t.rejects(print(['haproxy', 'gatecar.luo']), {
    message: /^"gatecar.luo" is no known file of haproxy; did you mean gatecar.lua\?/,
  });
  await t.rejects(print([]), { message: /^gateway takes one name of nginx, / });
  await t.rejects(print(['nginx', 'nginx.conf', 'more']), { name: 'UsageError' });
  await t.rejects(print(['nginx', '--mode=open']), { name: 'ConfigError' });
});

t.test('beside a bundle, the examples that were shipped with it are taken', async t => {
  const directory = t.testdir({ examples: {}, src: { cli: { 'gateway-config': {} } } });
  t.equal(examplesFolder(directory), join(directory, 'examples'));
  t.equal(examplesFolder(join(directory, 'src/cli/gateway-config')), join(directory, 'examples'));
});
