import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS } from '../../src/cli/command-names.ts';
import { help, settingsJsonSchema, settingsTable } from '../../src/config/help.ts';
import { SETTINGS, type Setting } from '../../src/config/schema.ts';
import { flagName, formerNames } from '../../src/config/setting-names.ts';
import { chartValue } from '../fixtures/chart-values.ts';
import { follows } from '../fixtures/json-schema.ts';
import { goodSettings } from '../fixtures/settings.ts';

const settings: readonly Setting<unknown>[] = Object.values(SETTINGS);
const root = join(import.meta.dirname, '../..');
const properties = settingsJsonSchema()['properties'] as Record<string, Record<string, unknown>>;

t.test('--help lists every setting with its flag, aliases and default', async t => {
  const text = help(COMMANDS);
  for (const { name, aliases, default: value, defaultLabel } of settings) {
    const names = [name, ...aliases].join(', ');
    t.match(text, `\n  --${flagName({ name })}\n      ${names} (default: ${defaultLabel ?? value ?? 'none'})\n`, name);
  }
});

t.test('--help describes every setting, in lines of at most 100 columns', async t => {
  const words = help(COMMANDS).replace(/\s+/g, ' ');
  for (const setting of settings) t.match(words, ` ${setting.help.replaceAll('`', '')} `, setting.name);
  for (const line of help(COMMANDS).split('\n')) t.ok(line.length <= 100, line);
});

t.test('--help shows the commands and an example, and ends with a newline', async t => {
  for (const text of [
    'gatecar [serve]',
    'gatecar dev',
    '--help',
    '--version',
    'Example: gatecar serve --token-audiences=',
  ]) {
    t.match(help(COMMANDS), text);
  }
  t.match(help(COMMANDS), /[^\n]\n$/);
});

t.test('the settings table has a row of four cells for every setting, in the order of the schema', async t => {
  const [header, rule, ...rows] = settingsTable().split('\n');
  t.equal(header, '| setting | default | also | meaning |');
  t.equal(rule, '|---|---|---|---|');
  t.strictSame(
    rows.map(row => row.split('`')[1]),
    settings.map(({ name }) => name),
  );
  for (const row of rows) t.match(row, /^\|(?:[^|]|\\\|)+\|(?:[^|]|\\\|)+\|[^|]+\|(?:[^|]|\\\|)+ Must be [^|]+\. \|$/);
});

t.test('the settings table shows default, alias, meaning and rule', async t => {
  const row = (name: string) =>
    settingsTable()
      .split('\n')
      .find(line => line.startsWith(`| \`${name}\` |`));
  t.equal(
    row('GATECAR_CACHE_NEGATIVE_TTL'),
    '| `GATECAR_CACHE_NEGATIVE_TTL` | `2s` |  | How long a `rejected` result is cached. 0 disables it. Outages are never ' +
      'cached. Must be a duration from 0 to 10m, such as 500ms, 10s or 2m. |',
  );
  t.match(row('GATECAR_ALLOWED_NAMESPACES'), '| all | `BIND_ALLOWED_NAMESPACES` |');
  t.match(row('GATECAR_KUBE_CONTEXT'), '| none |  |');
  t.match(
    row('GATECAR_ALLOWED_SERVICE_ACCOUNTS'),
    'one system:serviceaccount:\\<namespace>:\\<name> (an',
    'HTML is escaped',
  );
});

t.test('docs/configuration.md has the row of each setting in one of its tables, and no other row', async t => {
  const page = readFileSync(join(root, 'docs/configuration.md'), 'utf8');
  const [, tables = ''] = /<!-- settings -->\n\n([\s\S]*)\n\n<!-- \/settings -->/.exec(page) ?? [];
  const rows = (text: string) => text.split('\n').filter(line => line.startsWith('| `'));
  t.strictSame(rows(tables).sort(), rows(settingsTable()).sort(), 'if not: npm run generate');
  const former = settings.flatMap(setting => formerNames(setting).map(name => `| \`${name}\` | \`${setting.name}\` |`));
  t.ok(former.length > 0);
  t.strictSame(rows(page.slice(page.indexOf('<!-- former names -->'))), former);
});

t.test('config.schema.json is current', async t => {
  const text = readFileSync(join(root, 'config.schema.json'), 'utf8');
  t.equal(text, `${JSON.stringify(settingsJsonSchema(), null, 2)}\n`, 'if not: npm run generate');
});

t.test('the JSON schema accepts exactly the settings', async t => {
  const { properties: _, ...head } = settingsJsonSchema();
  t.strictSame(head, {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'gatecar settings',
    type: 'object',
    additionalProperties: false,
  });
  t.strictSame(
    Object.keys(properties),
    settings.map(({ name }) => name),
  );
  t.match(properties['GATECAR_CACHE_TTL'], {
    description: SETTINGS.cacheTtlMs.help,
    type: 'string',
    'x-default': '10s',
    'x-flag': '--cache-ttl',
    'x-aliases': [],
    'x-rule': 'must be a duration from 0 to 10m, such as 500ms, 10s or 2m',
  });
  t.notOk('x-default' in (properties['GATECAR_KUBE_CONTEXT'] ?? {}), 'a setting without a default has no x-default');
});

t.test('the JSON schema’s patterns are anchored, and valid in Go, which Helm uses', async t => {
  for (const pattern of JSON.stringify(properties).matchAll(/"pattern":("(?:[^"\\]|\\.)*")/g)) {
    const text = JSON.parse(pattern[1] ?? '');
    t.match(text, /^\^.*\$$/);
    t.notMatch(text, /\(\?[=!<]|\\[1-9kpP]/, 'no look-around, no back-reference');
    t.ok(new RegExp(text, 'u'));
  }
});

/** Values that parser and schema must reject. Accepted values are in the good files and below. */
const REJECTED: Record<keyof typeof SETTINGS, string[]> = {
  listen: ['', '9080', 'host', 'host:http', ':123456', 'a b:1', 'unix:', 'unix:/', 'unix:a', 'unix:/a\n', '[x]:1'],
  opsListen: ['9081', '::1:9081'],
  grpcListen: ['9082', '[::1]'],
  mode: ['', 'Basic', 'both'],
  allowInsecureBasic: ['', 'yes', '1'],
  errorDetail: ['none'],
  auditLog: ['', 'on', 'allow'],
  opaqueTokens: ['deny'],
  memoryLimit: ['256', '256MB', '63Mi', '65Gi', '-1Gi', '1.5Gi'],
  maxConnections: ['0', '1000001'],
  socketMode: ['', '660x', '0755', '0460', '1660', '432'],
  jwtPrecheck: ['', 'on', 'signatures'],
  cacheRefreshAhead: ['', 'yes', '1'],
  cacheStaleIfErrorMs: ['', '60', '-1s'],
  tokenAudiences: ['a b', 'ü', 'a'.repeat(513)],
  allowedNamespaces: ['', 'A', 'a_b', 'a.b', '-a', 'a'.repeat(64)],
  allowedServiceAccounts: [
    '',
    'a:b',
    'system:serviceaccount:a',
    'system:serviceaccount:a:b:c',
    'system:serviceaccount:A:b',
  ],
  tlsCertFile: ['a\n'],
  tlsKeyFile: ['a\n'],
  tlsClientCaFile: ['a\n'],
  policyDeniedStatus: ['', '404', 'x'],
  unavailableStatus: ['500', '200'],
  identityHeaderPrefix: ['', '-', 'X', 'X_', '1-', 'X-\n', `${'a'.repeat(40)}-`],
  cacheTtlMs: ['', '10', '1h', '1.5s', '-1s', '1 s', '600001ms', '601s', '11m'],
  cacheNegativeTtlMs: ['2'],
  reviewTimeoutMs: ['3 s', '0', '0s', '9ms', '61s', '2m'],
  shutdownDelayMs: ['1h', '301s'],
  shutdownTimeoutMs: ['15'],
  cacheMaxEntries: ['0', '10000001', '1.5', 'x', '-1'],
  reviewMaxConcurrency: ['0', '10001'],
  reviewMaxQueue: ['-1', '1000001'],
  logLevel: ['', 'verbose', 'INFO'],
  trustedProxies: [
    '',
    'localhost',
    'UNIX',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '10.0.0.0/33',
    '::/129',
    '256.0.0.1',
    '1.2.3',
  ],
  clientFailureLimit: ['', '20', '0/1m', '20/1ms', '20/61m', '1000000/1m', '20/1m/1m'],
  clientIpHeader: ['', 'X_Real_IP', 'a b', 'é', 'a'.repeat(129)],
  kubeConfigFiles: [':', '::', '/a\n'],
  kubeContext: ['dev\n'],
  kubeTokenFile: ['/a\n', '\0'],
  kubeCaFile: ['/a\r'],
  kubeApiUrl: [
    '',
    'kube.example',
    'ftp://a',
    'https:a',
    'https://',
    'https://u@a',
    'https://u:p@a',
    'https://u:p/w@a',
    'https://a?b',
    'https://a#b',
  ],
  kubeHeaders: ['a', '=b', 'a b=c', 'a_b=c', 'a=ü', 'Authorization=x', 'a=b,hOST =c'],
};

const ALSO_ACCEPTED: Partial<Record<keyof typeof SETTINGS, string[]>> = {
  listen: [':9080', 'my-host_1.example:1', '[fe80::1%eth0]:1', 'unix:/run/a b.sock'],
  tokenAudiences: ['', 'a=b;c"d~!'],
  trustedProxies: ['::ffff:10.0.0.0/104', '0.0.0.0/0'],
  clientIpHeader: ["!#$%&'*+-.^`|~9", 'a'.repeat(128)],
  kubeConfigFiles: ['/a', ':/b c:', ''],
  kubeContext: ['arn:aws:eks:eu-west-1:1:cluster/dev', ''],
  kubeApiUrl: ['https://kube.example', 'HTTPS://kube.example:443/', 'http://[::1]:8001/a@b'],
  kubeHeaders: ['', 'a = b=c', 'a=', 'x-host=y'],
  cacheTtlMs: ['0', '0s', '600000ms', '10m'],
  reviewTimeoutMs: ['10ms', '60s', '1m'],
};

t.test('the parser and the JSON schema accept and reject the same values', async t => {
  for (const [key, rejected] of Object.entries(REJECTED) as [keyof typeof SETTINGS, string[]][]) {
    const setting: Setting<unknown> = SETTINGS[key];
    const schema = properties[setting.name] ?? {};
    const good = goodSettings(flagName(setting))[setting.name] ?? '';
    const accepted = [good, ...(setting.default === undefined ? [] : [setting.default]), ...(ALSO_ACCEPTED[key] ?? [])];
    for (const text of accepted) {
      const isAccepted = setting.type.parse(text) !== undefined || (text === '' && setting.emptyIsUnset === true);
      t.ok(isAccepted, `the parser accepts ${setting.name}=${JSON.stringify(text)}`);
      t.ok(follows(schema, chartValue(setting, text)), `the schema accepts ${setting.name}=${JSON.stringify(text)}`);
    }
    for (const text of rejected) {
      t.equal(setting.type.parse(text), undefined, `the parser rejects ${setting.name}=${JSON.stringify(text)}`);
      t.notOk(follows(schema, chartValue(setting, text)), `the schema rejects ${setting.name}=${JSON.stringify(text)}`);
    }
  }
});
