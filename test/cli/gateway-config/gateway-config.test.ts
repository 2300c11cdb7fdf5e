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

t.test('with default settings every printed file equals its example', async t => {
  for (const [name, file, base] of everyFile) {
    t.match(await print([name, base]), { code: 0, out: example(file) }, file);
  }
});

t.test('every gateway example can be printed', async t => {
  // Not gateway configurations: applications, clients, monitoring and proxies to the API server.
  const notGateways = ['bindcar', 'dapr', 'iot', 'kind', 'kubectl-proxy', 'prometheus'];
  const files = globSync('*/*', { cwd: EXAMPLES }).filter(
    file => !notGateways.includes(file.split('/')[0] ?? '') && !/\.md$/.test(file),
  );
  t.strictSame(files.sort(), everyFile.map(([, file]) => file).sort());
});

t.test('the configured address replaces the one of the example, and nothing else changes', async t => {
  const cases: [name: string, setting: string, address: string, written: string][] = [
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
  for (const [name, setting, address, written] of cases) {
    const { files, asked } = GATEWAYS[name as 'nginx'];
    const [before, after, ...more] = example(files[0]).split(asked.written);
    t.equal(more.length, 0, `${name} contains the address once`);
    t.equal((await print([name], { [setting]: address })).out, `${before}${written}${after}`, `${name} ${address}`);
  }
});

t.test('an address that no gateway can use is an error that names the setting', async t => {
  const message = 'GATECAR_LISTEN: :0 is another port each time; set the port that the gateway asks';
  await t.rejects(print(['nginx', '--listen=:0']), { name: 'UsageError', message });
  await t.rejects(print(['envoy-grpc', '--grpc-listen=:0']), { message: /^GATECAR_GRPC_LISTEN: :0 is another/ });
  for (const name of ['nginx', 'envoy-http', 'caddy', 'haproxy']) {
    await t.rejects(print([name, '--listen=[fe80::1%eth0]:9080']), { message: /^GATECAR_LISTEN: .* zone / }, name);
  }
});

t.test('a socket path is escaped for each gateway, or an error if that is impossible', async t => {
  const line = async (name: string, path: string) => {
    const { out } = await print([name], { GATECAR_LISTEN: `unix:${path}` });
    return out
      .split('\n')
      .find(line => line.includes('/run/'))
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

t.test('Envoy resolves a host name by DNS, and uses an IP address directly', async t => {
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

t.test('with listener TLS the gateway verifies gatecar, and sends a client certificate for mutual TLS', async t => {
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
    const unchanged = example(GATEWAYS[name as 'nginx'].files[0])
      .split('\n')
      .filter(line => !/gatecar\/auth;|server gatecar/.test(line));
    for (const line of unchanged) t.ok(plain.includes(line), `${name} keeps ${line}`);
  }
  t.equal((await print(['haproxy', 'gatecar.lua', ...tls])).out, example('haproxy/gatecar.lua'));
});

t.test('a configured header prefix replaces the default one in every spelling', async t => {
  for (const [name, file, base] of everyFile) {
    const { out } = await print([name, base, '--identity-header-prefix=X-Bind-']);
    t.notMatch(out, /x[-_]auth[-_]request[-_]/i, file);
    const headers = IDENTITY_HEADERS.filter(header => example(file).includes(`X-Auth-Request-${header}`));
    for (const header of headers) t.ok(out.includes(`X-Bind-${header}`), `${file}: ${header}`);
  }
  const { out } = await print(['nginx', '--identity-header-prefix=X-Bind-']);
  t.match(out, '$upstream_http_x_bind_service_account;');
  t.match((await print(['haproxy', '--identity-header-prefix=X-Bind-'])).out, 'lua.gatecar abns@gatecar x-bind-');
});

t.test('remaining manual steps are printed on standard error', async t => {
  const notes = async (...args: string[]) => (await print(args)).err;
  t.equal(await notes('nginx'), '');
  t.equal(await notes('haproxy'), 'gatecar: another file: gatecar gateway haproxy gatecar.lua\n');
  t.equal(await notes('haproxy', 'gatecar.lua'), '');
  t.equal(
    await notes('envoy-grpc'),
    'gatecar: this gateway calls gatecar over gRPC, which is off: set GATECAR_GRPC_LISTEN=:9082\n',
  );
  t.equal(await notes('envoy-grpc', '--grpc-listen=:9082'), '');
  t.match(await notes('ingress-nginx'), 'replace the name and port of the Service');
  const tls = ['--tls-cert-file=/c', '--tls-key-file=/k'];
  t.equal(
    await notes('nginx', ...tls),
    "gatecar: replace the name and the CA file by those of gatecar's certificate\n",
  );
  t.match(await notes('traefik', ...tls), 'calls gatecar without TLS');
});

t.test('an unknown gateway or file is an error with a suggestion and the known names', async t => {
  const message = /^"ngin" is no known gateway; did you mean nginx\? Known: nginx, envoy-http, /;
  await t.rejects(print(['ngin']), { name: 'UsageError', message });
  await t.rejects(print(['squid']), { message: /^"squid" is no known gateway\. Known: nginx/ });
  await t.rejects(print(['haproxy', 'gatecar.luo']), {
    message: /^"gatecar.luo" is no known file of haproxy; did you mean gatecar.lua\?/,
  });
  await t.rejects(print([]), { message: /^gateway takes one name of nginx, / });
  await t.rejects(print(['nginx', 'nginx.conf', 'more']), { name: 'UsageError' });
  await t.rejects(print(['nginx', '--mode=open']), { name: 'ConfigError' });
  await t.rejects(print(['nginx', '--output', 'json']), { message: /--output is no known argument/ });
});

t.test('the examples folder is found next to the bundle and from the source tree', async t => {
  const directory = t.testdir({ examples: {}, src: { cli: { 'gateway-config': {} } } });
  t.equal(examplesFolder(directory), join(directory, 'examples'));
  t.equal(examplesFolder(join(directory, 'src/cli/gateway-config')), join(directory, 'examples'));
});
