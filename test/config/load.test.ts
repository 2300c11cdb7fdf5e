import t from 'tap';
import { CROSS_RULES } from '../../src/config/cross-setting-rules.ts';
import { type ConfigError, readConfig } from '../../src/config/load.ts';
import { type Config, SETTINGS } from '../../src/config/schema.ts';
import { flagName } from '../../src/config/setting-names.ts';
import { badSettings, expectedFault, faultsOf, goodSettings, rulesWithFixtures } from '../fixtures/settings.ts';

const settings = Object.entries(SETTINGS) as [keyof Config, (typeof SETTINGS)[keyof Config]][];
const DEFAULTS = readConfig([], {});

t.test('every setting and every cross-setting rule has a pair of good and bad files', async t => {
  const rules = [...settings.map(([, setting]) => flagName(setting)), ...Object.keys(CROSS_RULES)];
  t.strictSame(rulesWithFixtures(), rules.sort());
});

for (const rule of rulesWithFixtures()) {
  t.test(`${rule}: the good file is accepted, the bad one is rejected with its exact message`, async t => {
    t.strictSame(faultsOf([], goodSettings(rule)), []);
    t.strictSame(faultsOf([], badSettings(rule)), [expectedFault(rule)]);
  });
}

t.test('every setting takes effect, as a variable and as a flag', async t => {
  for (const [key, setting] of settings) {
    const { [setting.name]: text = '', ...companions } = goodSettings(flagName(setting));
    const value = readConfig([], { ...companions, [setting.name]: text })[key];
    t.notSame(value, DEFAULTS[key], setting.name);
    t.strictSame(readConfig([`--${flagName(setting)}=${text}`], companions)[key], value, flagName(setting));
  }
});

t.test('the configuration is frozen', async t => {
  t.ok(Object.isFrozen(DEFAULTS));
});

t.test('all errors are reported together: arguments, names, settings in order, then cross-setting rules', async t => {
  const rules = settings.map(([, { name }]) => flagName({ name })).filter(rule => !/^(ops-)?listen$/.test(rule));
  const env = {
    ...Object.fromEntries(rules.flatMap(rule => Object.entries(badSettings(rule)))),
    GATECAR_LISTEN: ':9081',
    GATECAR_TRUSTED_PROXIES: 'not-an-address',
  };
  const error = t.throws(() => readConfig(['--nonsense'], { ...env, GATECAR_NONSENSE: '1' })) as ConfigError;
  t.strictSame(error.faults, [
    '--nonsense is no known argument',
    'GATECAR_NONSENSE is no known setting',
    ...rules.map(rule => expectedFault(rule).replace('10.0.0.0/33', 'not-an-address')),
    expectedFault('listeners-differ'),
  ]);
  t.equal(error.name, 'ConfigError');
  t.equal(error.message, error.faults.join('\n'));
});

t.test('every configuration error is one line, even if its name or value has line breaks', async t => {
  const faults = faultsOf(['a\nb', '--a\nb=1'], { 'GATECAR_A\nB': '1', GATECAR_MODE: 'a\nb' });
  t.equal(faults.length, 4);
  t.strictSame(
    faults.filter(fault => fault.includes('\n')),
    [],
  );
});

t.test('a cross-setting rule is not reported if one of its settings is itself invalid', async t => {
  const env = { GATECAR_MODE: 'format-only', GATECAR_LISTEN: 'nonsense' };
  const faults = faultsOf([], env);
  t.equal(faults.length, 1);
  t.match(faults[0], /^GATECAR_LISTEN must be an address/);
  t.strictSame(faultsOf(['--listen'], { GATECAR_MODE: 'format-only' }), ['--listen needs a value']);
});

t.test('an unknown GATECAR_ variable is an error that suggests a similar name', async t => {
  t.strictSame(faultsOf([], { GATECAR_TOKEN_AUDIENCE: 'bindcar' }), [
    'GATECAR_TOKEN_AUDIENCE is no known setting; did you mean GATECAR_TOKEN_AUDIENCES?',
  ]);
  t.strictSame(faultsOf([], { GATECAR_SOMETHING_ELSE_ALTOGETHER: 's3cret' }), [
    'GATECAR_SOMETHING_ELSE_ALTOGETHER is no known setting',
  ]);
  t.strictSame(faultsOf([], { GATECARD: '1', MY_GATECAR_MODE: '1', PATH: '/bin', gatecar_mode: 'x' }), []);
});

t.test('a near miss of an accepted BIND_ or KUBE_ variable is an error, and other variables are ignored', async t => {
  for (const [name, meant] of [
    ['BIND_ALLOWED_NAMESPACE', 'BIND_ALLOWED_NAMESPACES'],
    ['bind_allowed_namespaces', 'BIND_ALLOWED_NAMESPACES'],
    ['BIND_ALLOWED_SERVICEACCOUNTS', 'BIND_ALLOWED_SERVICE_ACCOUNTS'],
    ['BIND_TOKEN_AUDIENCE', 'BIND_TOKEN_AUDIENCES'],
    ['KUBE_APISERVER', 'KUBE_API_SERVER'],
    ['KUBE_TOKEN_PTAH', 'KUBE_TOKEN_PATH'],
    ['KUBE_CA_CERTS_PATH', 'KUBE_CA_CERT_PATH'],
  ] as const) {
    t.strictSame(faultsOf([], { [name]: 'x' }), [`${name} is no known setting; did you mean ${meant}?`]);
  }
  t.strictSame(
    faultsOf([], { BIND_ALLOWED_NAMESPACES: 'x', BIND_ZONE_DIR: '/x', KUBE_TOKEN: 'x', KUBE_CONFIG: 'x' }),
    [],
  );
  t.strictSame(
    faultsOf([], { BIND_ALLOWED_NAMESPACE: undefined, KUBE_APISERVER: '', BOND_ALLOWED_NAMESPACES: 'x' }),
    [],
  );
});

t.test('a variable whose value is undefined is ignored', async t => {
  t.strictSame(faultsOf([], { GATECAR_NONSENSE: undefined, GATECAR_MODE: undefined }), []);
});

t.test('the service links that Kubernetes adds to every pod are ignored', async t => {
  const link = 'tcp://10.0.0.7:9080';
  // biome-ignore format: a table
  const links = {
    GATECAR_SERVICE_HOST: '10.0.0.7', GATECAR_SERVICE_PORT: '9080', GATECAR_SERVICE_PORT_AUTH: '9080',
    GATECAR_PORT: link, GATECAR_PORT_9080_TCP: link, GATECAR_PORT_9080_TCP_PROTO: 'tcp',
    GATECAR_PORT_9080_TCP_PORT: '9080', GATECAR_PORT_9080_TCP_ADDR: '10.0.0.7',
    GATECAR_X_SERVICE_HOST: '10.0.0.7', GATECAR_X_SERVICE_PORT: '9080', GATECAR_X_SERVICE_PORT_AUTH: '9080',
    GATECAR_X_1_PORT: 'udp://[fd00::7]:53', GATECAR_X_1_PORT_53_UDP: 'udp://[fd00::7]:53',
    GATECAR_X_1_PORT_53_UDP_ADDR: 'fd00::7', GATECAR_X_PORT_1_SCTP: 'sctp://10.0.0.7:1',
  };
  t.strictSame(faultsOf([], links), []);
});

t.test('a variable that only resembles a service link is an unknown setting', async t => {
  // biome-ignore format: a table
  for (const [name, value] of Object.entries({
    GATECAR_PORT: '9080', GATECAR_LISTEN_PORT: '9080', GATECAR_SERVICE: 'x', GATECAR_PORT_TCP: 'tcp://x:1',
    GATECAR_PORT_9080_TCP_HOST: 'x', GATECAR_SERVICE_HOSTS: 'x', GATECAR_PORT_9080: 'tcp://x:1',
  })) {
    t.match(faultsOf([], { [name]: value }), [new RegExp(`^${name} is no known setting`)], name);
  }
});

t.test('an alias sets its setting, and errors name the alias', async t => {
  for (const [key, { name, aliases }] of settings) {
    for (const alias of aliases) {
      const { [name]: good = '', ...companions } = goodSettings(flagName({ name }));
      const { [name]: bad = '' } = badSettings(flagName({ name }));
      const env = { ...companions, [alias]: good };
      t.strictSame(readConfig([], env)[key], readConfig([], { ...companions, [name]: good })[key], alias);
      t.strictSame(
        faultsOf([], { ...companions, [alias]: bad }),
        [expectedFault(flagName({ name })).replace(name, alias)],
        alias,
      );
    }
  }
});

t.test('a setting and its alias may have the same value, but not different values', async t => {
  const same = { GATECAR_TOKEN_AUDIENCES: 'a', BIND_TOKEN_AUDIENCES: 'a' };
  t.strictSame(readConfig([], same).tokenAudiences, ['a']);
  t.strictSame(faultsOf([], { ...same, BIND_TOKEN_AUDIENCES: '' }), [
    'GATECAR_TOKEN_AUDIENCES and BIND_TOKEN_AUDIENCES must not be set to different values; got "a" and ""',
  ]);
  t.strictSame(readConfig(['--token-audiences=c'], { ...same, BIND_TOKEN_AUDIENCES: 'b' }).tokenAudiences, ['c']);
});

t.test('a former name of a setting is accepted as a flag, but not together with the current name', async t => {
  t.equal(readConfig(['--grace=5m'], {}).cacheStaleIfErrorMs, 300_000);
  t.equal(readConfig(['--grace', '5m'], { GATECAR_CACHE_STALE_IF_ERROR: '1m' }).cacheStaleIfErrorMs, 300_000);
  const rule = 'must be a duration from 0 to 60m, such as 500ms, 10s or 2m';
  t.strictSame(faultsOf(['--grace=x'], {}), [`--grace ${rule}; got "x"`]);
  const both = ['--cache-stale-if-error=1s', '--grace=1s'];
  const twice = '--cache-stale-if-error is given twice; --grace is its former name';
  t.strictSame(faultsOf(both, {}), [twice]);
});

t.test('a typing error in a former name suggests the current one', async t => {
  t.match(faultsOf([], { GATECAR_TRUSTED_PEER: 'unix' }), [/did you mean GATECAR_TRUSTED_PROXIES\?$/]);
});

t.test('former values stay accepted, and the configuration has the current ones', async t => {
  const { opaqueTokens, mode } = readConfig(['--opaque-tokens=refuse', '--mode=basic'], {
    GATECAR_LISTEN: '127.0.0.1:1',
  });
  t.strictSame({ opaqueTokens, mode }, { opaqueTokens: 'reject', mode: 'format-only' });
  t.equal(readConfig([], { GATECAR_OPAQUE_TOKENS: 'ask' }).opaqueTokens, 'review');
});

t.test('an empty path or name counts as unset, and an empty flag overrides an alias', async t => {
  const env = { GATECAR_KUBECONFIG: '', KUBECONFIG: '/a', GATECAR_KUBE_CONTEXT: '', GATECAR_KUBE_TOKEN_FILE: '' };
  t.strictSame(readConfig([], env), { ...DEFAULTS, kubeConfigFiles: ['/a'] });
  t.strictSame(readConfig(['--kubeconfig='], { KUBECONFIG: '/a' }), DEFAULTS, 'the empty flag overrides the alias');
});

t.test('a flag takes precedence over the environment, even over invalid variables', async t => {
  const env = { GATECAR_CACHE_TTL: '5s', GATECAR_TOKEN_AUDIENCES: 'two words', BIND_TOKEN_AUDIENCES: 'ignored' };
  const { cacheTtlMs, tokenAudiences } = readConfig(['--cache-ttl=7s', '--token-audiences', 'mine'], env);
  t.strictSame({ cacheTtlMs, tokenAudiences }, { cacheTtlMs: 7000, tokenAudiences: ['mine'] });
});

t.test('a flag’s value follows an equals sign or is the next argument, and a switch needs none', async t => {
  const { allowInsecureBasic, kubeHeaders, cacheTtlMs } = readConfig(
    ['--allow-insecure-basic', '--kube-headers=a=b', '--cache-ttl', '1s'],
    {},
  );
  t.strictSame(
    { allowInsecureBasic, kubeHeaders, cacheTtlMs },
    { allowInsecureBasic: true, cacheTtlMs: 1000, kubeHeaders: { a: 'b' } },
  );
  for (const [args, expected] of [
    [['--allow-insecure-basic'], true],
    [['--allow-insecure-basic', 'true'], true],
    [['--allow-insecure-basic', 'false'], false],
    [['--allow-insecure-basic=false'], false],
  ] as const) {
    t.equal(readConfig(args, { GATECAR_ALLOW_INSECURE_BASIC: 'true' }).allowInsecureBasic, expected, args.join(' '));
  }
});

t.test('a flag that has no value, is repeated or is unknown is an error, and so is any other argument', async t => {
  const faults: [args: string[], ...faults: string[]][] = [
    [['--cache-ttl'], '--cache-ttl needs a value'],
    [['--token-audiences', '--mode=format-only', '--listen=unix:/a'], '--token-audiences needs a value'],
    [['--mode=format-only', '--mode', 'tokenreview'], '--mode is given twice'],
    [['--mode=', '--mode='], '--mode is given twice'],
    [['--mode='], '--mode must be one of tokenreview, format-only; got ""'],
    [['--cache-tll', '5s'], '--cache-tll is no known argument; did you mean --cache-ttl?'],
    [['--cache-tll=5s'], '--cache-tll is no known argument; did you mean --cache-ttl?'],
    [
      ['--something-quite-different', '--mode=basik'],
      '--something-quite-different is no known argument',
      '--mode must be one of tokenreview, format-only; got "basik"',
    ],
    [['--something-quite-different', '--mode', 'tokenreview'], '--something-quite-different is no known argument'],
    [['--cache-tll=5s', 'x'], '--cache-tll is no known argument; did you mean --cache-ttl?', 'x is no known argument'],
    [['something'], 'something is no known argument'],
    [['--allow-insecure-basic', 'yes'], 'yes is no known argument'],
    [['-v', 'x'], '-v is no known argument', 'x is no known argument'],
    [['--', '--=x', 'a=b'], '-- is no known argument', '-- is no known argument', 'a is no known argument'],
  ];
  for (const [args, ...expected] of faults) t.strictSame(faultsOf(args, {}), expected, args.join(' '));
});

t.test('list settings split on commas and newlines, and drop empty and repeated items', async t => {
  const text = '\n  dns-system ,ci\n\n,\tci,\r\ndefault\r\n';
  t.strictSame(readConfig([], { GATECAR_ALLOWED_NAMESPACES: text }).allowedNamespaces, ['dns-system', 'ci', 'default']);
  t.strictSame(readConfig([], { BIND_TOKEN_AUDIENCES: ' \n,' }).tokenAudiences, []);
});

t.test('an allowlist that is set but empty is an error, under either name', async t => {
  for (const name of ['ALLOWED_NAMESPACES', 'ALLOWED_SERVICE_ACCOUNTS']) {
    for (const prefix of ['GATECAR_', 'BIND_']) {
      for (const text of ['', ' ', '\n', ',', ' ,\n']) {
        t.match(faultsOf([], { [prefix + name]: text }), [/must be a list of at least one .* could mean all or none/]);
      }
    }
  }
});
