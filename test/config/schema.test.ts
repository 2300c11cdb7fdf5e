import t from 'tap';
import { readConfig } from '../../src/config/load.ts';
import { IN_CLUSTER_CA_FILE, IN_CLUSTER_TOKEN_FILE, SETTINGS, type Setting } from '../../src/config/schema.ts';
import { flagName } from '../../src/config/setting-names.ts';

const settings: readonly Setting<unknown>[] = Object.values(SETTINGS);

t.test('the defaults are those of the contract, with durations in milliseconds', async t => {
  t.strictSame(readConfig([], {}), {
    listen: { kind: 'tcp', host: undefined, port: 9080, text: ':9080' },
    opsListen: { kind: 'tcp', host: undefined, port: 9081, text: ':9081' },
    grpcListen: undefined,
    mode: 'tokenreview',
    allowInsecureBasic: false,
    tokenAudiences: ['bindcar'],
    allowedNamespaces: undefined,
    allowedServiceAccounts: undefined,
    policyDeniedStatus: 401,
    unavailableStatus: 503,
    errorDetail: 'full',
    identityHeaderPrefix: 'X-Auth-Request-',
    cacheTtlMs: 10_000,
    cacheNegativeTtlMs: 2_000,
    cacheMaxEntries: 10_000,
    reviewTimeoutMs: 3_000,
    reviewMaxConcurrency: 32,
    reviewMaxQueue: 512,
    socketMode: 0o660,
    maxConnections: undefined,
    memoryLimit: undefined,
    cacheRefreshAhead: true,
    cacheStaleIfErrorMs: 0,
    jwtPrecheck: 'signature',
    opaqueTokens: 'review',
    trustedProxies: undefined,
    clientIpHeader: undefined,
    clientFailureLimit: undefined,
    kubeConfigFiles: undefined,
    kubeContext: undefined,
    kubeApiUrl: undefined,
    kubeTokenFile: undefined,
    kubeCaFile: undefined,
    kubeHeaders: undefined,
    tlsCertFile: undefined,
    tlsKeyFile: undefined,
    tlsClientCaFile: undefined,
    shutdownDelayMs: 5_000,
    shutdownTimeoutMs: 15_000,
    logLevel: 'info',
    auditLog: 'off',
  });
});

t.test('the accepted aliases of settings are those of the contract', async t => {
  const aliased = settings.filter(({ aliases }) => aliases.length > 0);
  t.strictSame(Object.fromEntries(aliased.map(({ name, aliases }) => [name, aliases])), {
    GATECAR_TOKEN_AUDIENCES: ['BIND_TOKEN_AUDIENCES'],
    GATECAR_ALLOWED_NAMESPACES: ['BIND_ALLOWED_NAMESPACES'],
    GATECAR_ALLOWED_SERVICE_ACCOUNTS: ['BIND_ALLOWED_SERVICE_ACCOUNTS'],
    GATECAR_CACHE_REFRESH_AHEAD: ['GATECAR_REFRESH_AHEAD'],
    GATECAR_CACHE_STALE_IF_ERROR: ['GATECAR_GRACE'],
    GATECAR_JWT_PRECHECK: ['GATECAR_LOCAL_CHECKS'],
    GATECAR_TRUSTED_PROXIES: ['GATECAR_TRUSTED_PEERS'],
    GATECAR_CLIENT_FAILURE_LIMIT: ['GATECAR_FAILURE_LIMIT'],
    GATECAR_AUDIT_LOG: ['GATECAR_AUDIT'],
    GATECAR_KUBECONFIG: ['KUBECONFIG'],
    GATECAR_KUBE_API_URL: ['KUBE_API_SERVER'],
    GATECAR_KUBE_TOKEN_FILE: ['KUBE_TOKEN_PATH'],
    GATECAR_KUBE_CA_FILE: ['KUBE_CA_CERT_PATH'],
  });
});

t.test('every name, alias and flag belongs to one setting', async t => {
  const names = settings.flatMap(({ name, aliases }) => [name, ...aliases]);
  t.equal(new Set(names).size, names.length);
  t.equal(new Set(settings.map(flagName)).size, settings.length);
});

t.test('every default is valid by its own rule', async t => {
  for (const { name, type, default: text } of settings) {
    if (text !== undefined) t.not(type.parse(text), undefined, name);
  }
});

t.test('no setting’s name looks like a service link, because unknown service links are ignored', async t => {
  for (const { name } of settings) t.notMatch(name, /_(SERVICE_(HOST|PORT)|PORT)(_|$)/);
});

t.test('the help of every setting is one line that ends with a full stop', async t => {
  for (const { name, help } of settings) t.match(help, /^[^\n]+\.$/, name);
});

t.test('the in-cluster token and CA paths are those of the kubelet', async t => {
  t.equal(IN_CLUSTER_TOKEN_FILE, '/var/run/secrets/kubernetes.io/serviceaccount/token');
  t.equal(IN_CLUSTER_CA_FILE, '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt');
});
