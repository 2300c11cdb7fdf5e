import t from 'tap';
import { effectiveSettings, policyInForce } from '../../src/config/effective-settings.ts';
import { readConfig } from '../../src/config/load.ts';
import { SETTINGS, type Setting } from '../../src/config/schema.ts';
import { flagName } from '../../src/config/setting-names.ts';

const settings: readonly Setting<unknown>[] = Object.values(SETTINGS);
const shown = (env: Record<string, string>) => Object.fromEntries(effectiveSettings(readConfig([], env)));

t.test('every setting is listed, a default as it is written in the schema', async t => {
  const defaults = shown({});
  t.strictSame(Object.keys(defaults), settings.map(flagName));
  for (const { name, default: value, defaultLabel } of settings) {
    t.equal(defaults[flagName({ name })], value ?? `(${defaultLabel ?? 'none'})`, name);
  }
});

t.test('a value is shown as a user would write it, and can be read again', async t => {
  const given: [name: string, text: string, shown?: string][] = [
    ['GATECAR_LISTEN', 'unix:/run/s'],
    ['GATECAR_SOCKET_MODE', '0600'],
    ['GATECAR_CACHE_TTL', '120s', '2m'],
    ['GATECAR_REVIEW_TIMEOUT', '1500ms'],
    ['GATECAR_CACHE_NEGATIVE_TTL', '0', '0s'],
    ['GATECAR_MEMORY_LIMIT', '1024Mi', '1Gi'],
    ['GATECAR_CLIENT_FAILURE_LIMIT', '20/60s', '20/1m'],
    ['GATECAR_KUBECONFIG', '/a:/b'],
    ['GATECAR_ALLOWED_NAMESPACES', 'a\nb', 'a,b'],
    ['GATECAR_TOKEN_AUDIENCES', ''],
    ['GATECAR_CACHE_REFRESH_AHEAD', 'false'],
    ['GATECAR_POLICY_DENIED_STATUS', '403'],
    ['GATECAR_OPAQUE_TOKENS', 'ask', 'review'],
  ];
  for (const [name, text, expected = text] of given) {
    const extra =
      name === 'GATECAR_CLIENT_FAILURE_LIMIT'
        ? { GATECAR_TRUSTED_PROXIES: '10.0.0.1', GATECAR_CLIENT_IP_HEADER: 'X' }
        : {};
    const flag = flagName({ name: name as `GATECAR_${string}` });
    t.equal(shown({ ...extra, [name]: text })[flag], expected, name);
    t.equal(shown({ ...extra, [name]: expected })[flag], expected, name);
  }
});

t.test('headers to the API server may hold a secret, and credentials in its URL are rejected', async t => {
  const values = shown({
    GATECAR_KUBE_HEADERS: 'dapr-app-id=a,dapr-api-token=s3cret',
    GATECAR_KUBE_API_URL: 'https://kube.example/',
  });
  t.equal(values['kube-headers'], 'dapr-app-id=(not shown),dapr-api-token=(not shown)');
  t.equal(values['kube-api-url'], 'https://kube.example');
  t.throws(() => shown({ GATECAR_KUBE_API_URL: 'https://user:s3cret@kube.example' }), { name: 'ConfigError' });
});

t.test('the policy in force has audiences, allowlists and the TTL, and cuts long lists', async t => {
  t.strictSame(policyInForce(readConfig([], {})), {
    tokenAudiences: ['bindcar'],
    allowedNamespaces: 'all',
    allowedServiceAccounts: 'all',
    cacheTtlMs: 10_000,
  });
  const many = Array.from({ length: 22 }, (_, at) => `ns-${at}`);
  const settings = {
    GATECAR_TOKEN_AUDIENCES: 'one,two',
    GATECAR_ALLOWED_NAMESPACES: many.join(','),
    GATECAR_ALLOWED_SERVICE_ACCOUNTS: 'system:serviceaccount:ns-1:app',
  };
  t.match(policyInForce(readConfig([], settings)), {
    tokenAudiences: ['one', 'two'],
    allowedNamespaces: [...many.slice(0, 20), '… and 2 more'],
    allowedServiceAccounts: ['system:serviceaccount:ns-1:app'],
  });
  const formatOnly = { GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:0' };
  t.equal(policyInForce(readConfig([], formatOnly)), undefined);
});
