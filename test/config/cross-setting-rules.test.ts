import t from 'tap';
import { CROSS_RULES, crossFaults, warnings } from '../../src/config/cross-setting-rules.ts';
import { readConfig } from '../../src/config/load.ts';
import { expectedFault, faultsOf } from '../fixtures/settings.ts';

const warningsOf = (env: Record<string, string>): string[] => warnings(readConfig([], env));

t.test('format-only mode listens only on loopback or a Unix socket', async t => {
  const fault = expectedFault('format-only-mode-is-local');
  for (const listen of ['127.0.0.1:9080', '127.255.0.1:0', '[::1]:9080', 'localhost:9080', 'unix:/run/gatecar.sock']) {
    t.strictSame(faultsOf([], { GATECAR_MODE: 'format-only', GATECAR_LISTEN: listen }), [], listen);
  }
  for (const listen of [
    ':9080',
    '0.0.0.0:9080',
    '[::]:9080',
    '10.0.0.1:9080',
    'gatecar:9080',
    '[fe80::1]:9080',
    '128.0.0.1:1',
  ]) {
    const expected = fault.replace('0.0.0.0:9080', listen);
    t.strictSame(faultsOf([], { GATECAR_MODE: 'format-only', GATECAR_LISTEN: listen }), [expected], listen);
    t.strictSame(
      faultsOf(['--allow-insecure-basic'], { GATECAR_MODE: 'format-only', GATECAR_LISTEN: listen }),
      [],
      listen,
    );
    t.strictSame(faultsOf([], { GATECAR_LISTEN: listen }), [], listen);
  }
  t.strictSame(
    faultsOf([], { GATECAR_MODE: 'format-only' }),
    [fault.replace('0.0.0.0:9080', ':9080')],
    'the default address is rejected too',
  );
});

t.test('in format-only mode the gRPC listener must be local too', async t => {
  const env = { GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:9080', GATECAR_GRPC_LISTEN: '0.0.0.0:9082' };
  t.strictSame(faultsOf([], env), [expectedFault('format-only-mode-grpc-is-local').replace(':9082', '0.0.0.0:9082')]);
  t.strictSame(faultsOf(['--allow-insecure-basic'], env), []);
  t.strictSame(faultsOf(['--grpc-listen=unix:/run/grpc.sock'], env), []);
});

t.test('two listeners must have different addresses, unless the port is 0', async t => {
  const listeners = (listen: string, ops: string, grpc: string) =>
    faultsOf([], { GATECAR_LISTEN: listen, GATECAR_OPS_LISTEN: ops, GATECAR_GRPC_LISTEN: grpc });
  t.strictSame(listeners(':1', ':2', ':3'), []);
  t.strictSame(listeners(':1', ':2', ':1'), [expectedFault('grpc-listener-differs').replace('9081', '1')]);
  t.strictSame(listeners(':1', ':2', ':2'), [expectedFault('grpc-listener-differs').replace('9081', '2')]);
  t.strictSame(listeners(':1', ':1', ':3'), [expectedFault('listeners-differ').replace('9081', '1')]);
  t.equal(listeners('unix:/a', 'unix:/a', 'unix:/a').length, 2);
  t.strictSame(listeners('127.0.0.1:0', '127.0.0.1:0', '127.0.0.1:0'), []);
});

t.test('GATECAR_CLIENT_IP_HEADER requires a trusted proxy', async t => {
  const header = { GATECAR_CLIENT_IP_HEADER: 'X-Forwarded-For' };
  t.strictSame(faultsOf([], header), [expectedFault('client-ip-header-needs-trusted-proxies')]);
  t.strictSame(faultsOf(['--trusted-proxies=unix'], header), []);
  t.strictSame(faultsOf(['--trusted-proxies=unix'], {}), []);
});

t.test('a certificate requires a key and the reverse, and a client CA requires both', async t => {
  const [cert, key, ca] = ['--tls-cert-file=/a', '--tls-key-file=/b', '--tls-client-ca-file=/c'] as const;
  const together = expectedFault('tls-needs-certificate-and-key');
  const needed = expectedFault('client-ca-needs-certificate').replace('/run/tls/ca.crt', '/c');
  t.strictSame(faultsOf([cert, key], {}), []);
  t.strictSame(faultsOf([cert, key, ca], {}), []);
  t.strictSame(faultsOf([cert], {}), [together.replace('/run/tls/tls.key', '/a')]);
  t.strictSame(faultsOf([key], {}), [together.replace('/run/tls/tls.key', '/b')]);
  t.strictSame(faultsOf([ca], {}), [needed]);
  t.strictSame(faultsOf([cert, ca], {}), [together.replace('/run/tls/tls.key', '/a')]);
});

t.test('a context requires a kubeconfig and not an API server address', async t => {
  const context = { GATECAR_KUBE_CONTEXT: 'dev' };
  const fault = expectedFault('context-needs-kubeconfig');
  t.strictSame(faultsOf(['--kube-api-url=http://127.0.0.1:8001'], context), [fault]);
  t.strictSame(faultsOf([], context), [], 'the context may be in ~/.kube/config');
  t.strictSame(faultsOf(['--kubeconfig=/a'], context), []);
});

t.test('every broken rule is reported, except rules about a setting that is itself invalid', async t => {
  // biome-ignore format: a table
  const env = {
    GATECAR_MODE: 'format-only', GATECAR_LISTEN: ':1', GATECAR_OPS_LISTEN: ':1', GATECAR_GRPC_LISTEN: ':1',
    GATECAR_CLIENT_IP_HEADER: 'X-Real-IP', GATECAR_KUBE_API_URL: 'http://localhost', GATECAR_KUBE_CONTEXT: 'dev',
    GATECAR_TLS_KEY_FILE: '/a', GATECAR_TLS_CLIENT_CA_FILE: '/b',
    GATECAR_CLIENT_FAILURE_LIMIT: '20/1m',
    GATECAR_CACHE_STALE_IF_ERROR: '1m', GATECAR_CACHE_TTL: '0',
  };
  t.equal(faultsOf([], env).length, Object.keys(CROSS_RULES).length);
  const config = Object.freeze({ ...readConfig([], {}), clientIpHeader: 'X-Real-IP' });
  t.equal(crossFaults(config, new Set()).length, 1);
  for (const key of CROSS_RULES['client-ip-header-needs-trusted-proxies'].about) {
    t.strictSame(crossFaults(config, new Set([key])), [], key);
  }
});

t.test('the defaults cause no warning', async t => {
  t.strictSame(warningsOf({}), []);
});

t.test('format-only mode warns that it verifies nothing, and that no allowlist is applied', async t => {
  const basic = { GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:9080', GATECAR_TOKEN_AUDIENCES: '' };
  const verified = 'format-only mode: tokens are NOT verified; any well-formed token passes';
  const lists = 'format-only mode knows no identity: the allowlists are not applied';
  t.strictSame(warningsOf(basic), [verified]);
  t.strictSame(warningsOf({ ...basic, GATECAR_ALLOWED_NAMESPACES: 'ci' }), [verified, lists]);
  const account = 'system:serviceaccount:ci:deployer';
  t.strictSame(warningsOf({ ...basic, GATECAR_ALLOWED_SERVICE_ACCOUNTS: account }), [verified, lists]);
});

t.test('format-only mode warns that the failure limit has no effect', async t => {
  const limit = {
    GATECAR_CLIENT_FAILURE_LIMIT: '20/1m',
    GATECAR_TRUSTED_PROXIES: '::1',
    GATECAR_CLIENT_IP_HEADER: 'X-Real-IP',
  };
  t.strictSame(warningsOf(limit), []);
  t.match(warningsOf({ ...limit, GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:9080' }), [
    /NOT verified/,
    'format-only mode rejects no token: GATECAR_CLIENT_FAILURE_LIMIT has no effect',
  ]);
});

t.test('the failure limit requires a trusted proxy and a source for the client’s address', async t => {
  const limit = { GATECAR_CLIENT_FAILURE_LIMIT: '20/1m' };
  const message = /^GATECAR_CLIENT_FAILURE_LIMIT needs .*; got 20 in 60000 ms$/;
  const header = { GATECAR_CLIENT_IP_HEADER: 'X-Real-IP' };
  const peers = { GATECAR_TRUSTED_PROXIES: '::1' };
  const grpc = { GATECAR_GRPC_LISTEN: '127.0.0.1:9082' };
  for (const lacking of [{}, peers, grpc]) t.match(faultsOf([], { ...limit, ...lacking }), [message]);
  for (const enough of [header, grpc]) t.strictSame(faultsOf([], { ...limit, ...peers, ...enough }), []);
});

t.test('an empty list of audiences causes a warning', async t => {
  t.strictSame(warningsOf({ GATECAR_TOKEN_AUDIENCES: '' }), [
    'GATECAR_TOKEN_AUDIENCES is empty: tokens for the API server itself pass, whatever their purpose',
  ]);
});

t.test('plain http to another host causes a warning, and to this host it does not', async t => {
  const warning = 'GATECAR_KUBE_API_URL is plain http to another host: tokens travel unencrypted';
  for (const url of [
    'http://10.0.0.1',
    'http://kube.example:8001/p',
    'http://[fd00::1]:1',
    'http://localhost.example',
  ]) {
    t.strictSame(warningsOf({ GATECAR_KUBE_API_URL: url }), [warning], url);
  }
  const harmless = ['http://127.0.0.1:8001', 'http://localhost:3500/v1.0', 'http://[::1]:8001', 'https://kube.example'];
  for (const url of harmless) t.strictSame(warningsOf({ GATECAR_KUBE_API_URL: url }), [], url);
});
