import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import { EndpointError, type EndpointSource } from '../../src/kube/endpoint.ts';
import { type KubeConfigOptions, kubeConfigEndpoint } from '../../src/kube/kubeconfig.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { endPlugin, execUser, kubeconfig, pluginRuns } from '../fixtures/kubeconfig.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { pem } from '../fixtures/tls-server.ts';
import { until } from '../fixtures/until.ts';

/** Creates a source for kubeconfig files with these texts, in this order. */
function fromTexts(t: Test, texts: readonly string[], options: Partial<KubeConfigOptions> = {}) {
  const directory = tempDir(t, Object.fromEntries(texts.map((text, at) => [`config-${at}`, text])));
  const files = texts.map((_, at) => join(directory, `config-${at}`));
  const clock = fakeClock();
  const noOverrides = { context: undefined, tokenFile: undefined, caFile: undefined };
  return { directory, files, clock, source: kubeConfigEndpoint({ files, ...noOverrides, now: clock.now, ...options }) };
}

const authorization = async (source: EndpointSource) => (await source.current()).headers['authorization'];

const base64 = (text: string) => Buffer.from(text).toString('base64');

t.test('a kubeconfig written by kubectl gives address, CA, token, TLS server name and proxy', async t => {
  const { source } = fromTexts(t, [
    `apiVersion: v1
kind: Config
preferences: {}
current-context: dev
clusters:
- name: dev-cluster
  cluster:
    server: https://127.0.0.1:6443/prefix//
    certificate-authority-data: ${base64('the CA')}
    tls-server-name: kubernetes.default.svc
    proxy-url: http://127.0.0.1:3128
contexts:
- name: dev
  context:
    cluster: dev-cluster
    user: developer
    namespace: default
users:
- name: developer
  user:
    token: |
      a-kubeconfig-token
`,
  ]);
  const endpoint = await source.current();
  t.strictSame(endpoint, {
    baseUrl: 'https://127.0.0.1:6443/prefix',
    headers: { authorization: 'Bearer a-kubeconfig-token' },
    tls: { ca: Buffer.from('the CA'), servername: 'kubernetes.default.svc' },
    proxyUrl: 'http://127.0.0.1:3128',
  });
});

t.test('settings absent from a kubeconfig are absent from the endpoint', async t => {
  const { source } = fromTexts(t, [kubeconfig()]);
  t.strictSame(await source.current(), {
    baseUrl: 'https://127.0.0.1:6443',
    headers: {},
    tls: {},
    proxyUrl: undefined,
  });
});

t.test('insecure-skip-tls-verify and an impersonated user of a kubeconfig are used', async t => {
  const { source } = fromTexts(t, [
    kubeconfig({ cluster: { 'insecure-skip-tls-verify': true }, user: { token: 'gatecar-token', as: 'jane' } }),
  ]);
  t.match(await source.current(), { tls: { rejectUnauthorized: false }, headers: { 'impersonate-user': 'jane' } });
});

t.test('client certificates come from data, or from files relative to the kubeconfig', async t => {
  const data = { 'client-certificate-data': base64('certificate'), 'client-key-data': base64('key') };
  const paths = { 'client-certificate': 'pki/client.crt', 'client-key': 'pki/client.key' };
  const directory = t.testdir({
    data: kubeconfig({ cluster: { 'certificate-authority-data': base64('ca') }, user: data }),
    paths: kubeconfig({ cluster: { 'certificate-authority': 'pki/ca.crt' }, user: paths }),
    pki: { 'ca.crt': 'ca', 'client.crt': 'certificate', 'client.key': 'key' },
  });
  for (const name of ['data', 'paths']) {
    const files = [join(directory, name)];
    const source = kubeConfigEndpoint({ files, context: undefined, tokenFile: undefined, caFile: undefined });
    t.strictSame((await source.current()).tls, {
      ca: Buffer.from('ca'),
      cert: Buffer.from('certificate'),
      key: Buffer.from('key'),
    });
  }
});

t.test('a username and a password of a kubeconfig become basic authentication', async t => {
  const { source } = fromTexts(t, [kubeconfig({ user: { username: 'jane', password: 'pass:word' } })]);
  t.match(await source.current(), { headers: { authorization: `Basic ${base64('jane:pass:word')}` } });
});

t.test('a user’s tokenFile is relative to the kubeconfig, trimmed and re-read', async t => {
  const directory = t.testdir({ config: kubeconfig({ user: { tokenFile: 'volume/token' } }), volume: {} });
  const volume = await projectedVolume(join(directory, 'volume'), { token: 'one\n' });
  const clock = fakeClock();
  const files = [join(directory, 'config')];
  const noOverrides = { context: undefined, tokenFile: undefined, caFile: undefined };
  const source = kubeConfigEndpoint({ files, ...noOverrides, now: clock.now });
  t.equal(await authorization(source), 'Bearer one');
  await volume.swap({ token: 'two\n' });
  clock.advance(10_000);
  t.equal(await authorization(source), 'Bearer two');
  await volume.swap({ token: 'six\n' });
  source.invalidate();
  t.equal(await authorization(source), 'Bearer six');
});

t.test('the token file and the CA file of the settings override the kubeconfig', async t => {
  const directory = t.testdir({ token: 'from-settings', 'ca.crt': 'CA of the settings' });
  const settings = { tokenFile: join(directory, 'token'), caFile: join(directory, 'ca.crt') };
  for (const user of [{ token: 'from-kubeconfig' }, { tokenFile: 'not-there' }, { username: 'jane', password: 'x' }]) {
    const { source } = fromTexts(
      t,
      [kubeconfig({ cluster: { 'certificate-authority-data': base64('ca') }, user })],
      settings,
    );
    t.match(await source.current(), {
      headers: { authorization: 'Bearer from-settings' },
      tls: { ca: Buffer.from('CA of the settings') },
    });
  }
});

t.test('over plain http a kubeconfig’s credential is not sent, and the token file of the settings is', async t => {
  const text = kubeconfig({ cluster: { server: 'http://127.0.0.1:8001/' }, user: { token: 'from-kubeconfig' } });
  const plain = { baseUrl: 'http://127.0.0.1:8001', headers: {}, tls: {}, proxyUrl: undefined };
  t.strictSame(await fromTexts(t, [text]).source.current(), plain);
  const tokenFile = join(tempDir(t, { token: 'from-settings' }), 'token');
  t.equal(await authorization(fromTexts(t, [text], { tokenFile }).source), 'Bearer from-settings');
  const withTokenFile = kubeconfig({ cluster: { server: 'HTTP://127.0.0.1:8001' }, user: { tokenFile: 'not-there' } });
  t.strictSame((await fromTexts(t, [withTokenFile]).source.current()).headers, {});
});

t.test('a context without a user has no credential, but the cluster’s CA', async t => {
  const { source } = fromTexts(t, [
    kubeconfig({
      cluster: { 'certificate-authority-data': base64('ca') },
      contexts: [{ name: 'main', context: { cluster: 'main' } }],
    }),
  ]);
  t.match(await source.current(), { headers: {}, tls: { ca: Buffer.from('ca') } });
});

t.test('several kubeconfig files are merged, and the first entry of a name wins', async t => {
  const first = kubeconfig({
    clusters: [{ name: 'a', cluster: { server: 'https://a.example' } }],
    users: [{ name: 'jane', user: { token: 'first-jane' } }],
    contexts: [{ name: 'one', context: { cluster: 'a', user: 'jane' } }],
    'current-context': 'one',
  });
  const second = kubeconfig({
    clusters: [
      { name: 'a', cluster: { server: 'https://not-this.example' } },
      { name: 'b', cluster: { server: 'https://b.example' } },
    ],
    users: [
      { name: 'jane', user: { tokenFile: 'not-this' } },
      { name: 'joe', user: { token: 'second-joe' } },
    ],
    contexts: [
      { name: 'one', context: { cluster: 'b', user: 'joe' } },
      { name: 'two', context: { cluster: 'b', user: 'joe' } },
      { name: 'mixed', context: { cluster: 'a', user: 'joe' } },
    ],
    'current-context': 'two',
  });
  const expected = {
    one: ['https://a.example', 'Bearer first-jane'],
    two: ['https://b.example', 'Bearer second-joe'],
    mixed: ['https://a.example', 'Bearer second-joe'],
  };
  for (const [context, [baseUrl, credential]] of Object.entries(expected)) {
    const { source } = fromTexts(t, [first, second], { context });
    t.match(await source.current(), { baseUrl });
    t.equal(await authorization(source), credential);
  }
  t.match(await fromTexts(t, [first, second]).source.current(), { baseUrl: 'https://a.example' });
  t.match(await fromTexts(t, [second, first]).source.current(), { baseUrl: 'https://b.example' });

  const onlyUsers = kubeconfig({ clusters: [], contexts: [], 'current-context': '' });
  t.match(await fromTexts(t, [onlyUsers, first]).source.current(), { baseUrl: 'https://a.example' });
});

t.test('a tokenFile is relative to the first kubeconfig that names its user', async t => {
  const text = kubeconfig({ user: { tokenFile: 'token' } });
  const [first, second] = [tempDir(t, { config: text, token: 'first' }), tempDir(t, { config: text, token: 'second' })];
  const files = [join(first, 'config'), join(second, 'config')];
  const source = kubeConfigEndpoint({ files, context: undefined, tokenFile: undefined, caFile: undefined });
  t.equal(await authorization(source), 'Bearer first');
});

t.test('an incomplete kubeconfig is an error that says what is missing', async t => {
  const cases: [message: string, text: string, context?: string][] = [
    ['kubeconfig: no current-context; set GATECAR_KUBE_CONTEXT', kubeconfig({ 'current-context': undefined })],
    ['kubeconfig: there is no context "staging"', kubeconfig(), 'staging'],
    ['kubeconfig: there is no context "gone"', kubeconfig({ 'current-context': 'gone' })],
    ['kubeconfig: context "main" names no known cluster', kubeconfig({ clusters: [] })],
    ['kubeconfig: context "main" names no known user', kubeconfig({ users: [] })],
    [
      'kubeconfig: the server of the cluster is no http or https URL',
      kubeconfig({ cluster: { server: 'https://x:99999' } }),
    ],
    ['kubeconfig: the server of the cluster is no http or https URL', kubeconfig({ cluster: { server: 'unix:///x' } })],
    [
      'kubeconfig: the credential has characters that no header can carry',
      kubeconfig({ user: { token: 'token\r\nX-Other: 1' } }),
    ],
  ];
  for (const [message, text, context] of cases) {
    await t.rejects(fromTexts(t, [text], { context }).source.current(), new EndpointError(message));
  }
});

t.test('an invalid kubeconfig is an error with its path, without its content', async t => {
  for (const text of ['null', 'token: {secret-token', 'users: secret-token', '\0secret-token']) {
    const { source, files } = fromTexts(t, [text]);
    await t.rejects(source.current(), new EndpointError(`kubeconfig ${files[0]} is not a valid kubeconfig`));
  }
  const withoutContext = [
    '',
    'secret-token',
    '- secret-token',
    'users: [{user: {token: secret-token}}]',
    'clusters: [{name: secret-token}]',
    'contexts: [{name: secret-token, context: {}}]',
  ];
  for (const text of withoutContext) {
    const message = 'kubeconfig: no current-context; set GATECAR_KUBE_CONTEXT';
    await t.rejects(fromTexts(t, [text]).source.current(), new EndpointError(message));
  }
});

t.test('an unreadable file of a kubeconfig is an error with the system’s code', async t => {
  const { source, files } = fromTexts(t, [kubeconfig()], { files: ['/not/there'] });
  t.equal(files.length, 1);
  await t.rejects(source.current(), new EndpointError('kubeconfig /not/there cannot be read: ENOENT'));
  const cases: [message: string, user: Record<string, string>][] = [
    ['kubeconfig: the credential failed: ENOENT', { 'client-certificate': 'not-there', 'client-key': 'not-there' }],
    ['token file cannot be read: ENOENT', { tokenFile: 'not-there' }],
  ];
  for (const [message, user] of cases) {
    await t.rejects(fromTexts(t, [kubeconfig({ user })]).source.current(), new EndpointError(message));
  }
  const caFile = '/not/there';
  await t.rejects(
    fromTexts(t, [kubeconfig()], { caFile }).source.current(),
    new EndpointError('CA file cannot be read: ENOENT'),
  );
});

t.test('a changed kubeconfig takes effect after ten seconds, or immediately after a drop', async t => {
  const { source, files, clock } = fromTexts(t, [kubeconfig({ user: { token: 'old' } })]);
  t.equal(await authorization(source), 'Bearer old');
  await writeFile(String(files[0]), kubeconfig({ user: { token: 'newer' } }));
  clock.advance(9999);
  t.equal(await authorization(source), 'Bearer old');
  clock.advance(1);
  t.equal(await authorization(source), 'Bearer newer');
  await writeFile(String(files[0]), kubeconfig({ user: { token: 'newest' } }));
  source.invalidate();
  t.equal(await authorization(source), 'Bearer newest');
});

t.test(
  'the previous content of a kubeconfig is used while it is being written, until the API server rejects it',
  async t => {
    const { source, files, clock } = fromTexts(t, [kubeconfig({ user: { token: 'previous' } })]);
    await source.current();
    await writeFile(String(files[0]), kubeconfig({ user: { token: 'new' } }).slice(0, 60));
    clock.advance(10_000);
    t.equal(await authorization(source), 'Bearer previous');
    await writeFile(String(files[0]), kubeconfig({ user: { token: 'new' } }));
    clock.advance(999);
    t.equal(await authorization(source), 'Bearer previous');
    clock.advance(1);
    t.equal(await authorization(source), 'Bearer new', 'it is read again after a second');
    await writeFile(String(files[0]), '{');
    source.invalidate();
    await t.rejects(source.current(), { name: 'EndpointError', message: /is not a valid kubeconfig/ });
    await t.rejects(source.current(), { name: 'EndpointError' });
  },
);

t.test('reloadTls() re-reads a kubeconfig’s files immediately, without a plugin run', async t => {
  const file = join(tempDir(t), 'runs');
  const user = execUser('token', file);
  const { source, files } = fromTexts(t, [kubeconfig({ user })]);
  const { tls } = await source.current();
  source.reloadTls();
  t.equal((await source.current()).tls, tls);
  t.equal(pluginRuns(file).length, 1);
  const cluster = { 'certificate-authority-data': base64(pem('ca.crt')) };
  await writeFile(String(files[0]), kubeconfig({ user, cluster }));
  source.reloadTls();
  t.equal(String((await source.current()).tls.ca), pem('ca.crt'));
});

t.test('a partly written CA bundle of a kubeconfig does not replace a complete one', async t => {
  const caFile = join(tempDir(t, { 'ca.crt': pem('ca.crt') }), 'ca.crt');
  const { source } = fromTexts(t, [kubeconfig({ cluster: { 'certificate-authority': caFile }, user: { token: 'a' } })]);
  const first = await source.current();
  await writeFile(caFile, pem('other-ca.crt').slice(0, 100));
  source.reloadTls();
  t.equal((await source.current()).tls, first.tls);
  await writeFile(caFile, pem('other-ca.crt'));
  source.reloadTls();
  t.equal(String((await source.current()).tls.ca), pem('other-ca.crt'));
});

t.test('unchanged TLS settings of a kubeconfig stay the same object, and changed ones are a new object', async t => {
  const material = { cluster: { 'certificate-authority-data': base64(pem('ca.crt')) }, user: { token: 'a' } };
  const { source, files } = fromTexts(t, [kubeconfig(material)]);
  let latest = (await source.current()).tls;
  const next = async (change: Parameters<typeof kubeconfig>[0]) => {
    await writeFile(String(files[0]), kubeconfig(change));
    source.invalidate();
    return (await source.current()).tls;
  };
  t.equal(await next({ ...material, user: { token: 'b' } }), latest);
  const changes = [
    { cluster: { 'certificate-authority-data': base64(pem('other-ca.crt')) } },
    { cluster: { 'tls-server-name': 'first' } },
    { cluster: { 'tls-server-name': 'second' } },
    { cluster: { 'tls-server-name': 'second', 'insecure-skip-tls-verify': true } },
    { user: { 'client-certificate-data': base64('one'), 'client-key-data': base64('key') } },
    { user: { 'client-certificate-data': base64('two'), 'client-key-data': base64('key') } },
    { user: { 'client-certificate-data': base64('two'), 'client-key-data': base64('other') } },
  ];
  for (const change of changes) {
    const tls = await next(change);
    t.not(tls, latest, JSON.stringify(change));
    t.equal(await next(change), tls);
    latest = tls;
  }
});

t.test('a kubeconfig source uses the real clock by default', async t => {
  const { files, source: withFakeClock } = fromTexts(t, [kubeconfig({ user: { token: 'a' } })]);
  const source = kubeConfigEndpoint({ files, context: undefined, tokenFile: undefined, caFile: undefined });
  const first = await source.current();
  t.equal(await source.current(), first, 'ten seconds have not passed');
  t.strictSame(await withFakeClock.current(), first);
});

t.test('exec plugins', async t => {
  t.test('an exec plugin returns a token and gets the kubeconfig’s environment variables', async t => {
    const { source } = fromTexts(t, [kubeconfig({ user: execUser('token') })]);
    t.equal(await authorization(source), 'Bearer plugin-token-1');
    const exec = { ...execUser('token').exec, env: [{ name: 'PLUGIN_TOKEN', value: 'from-env' }] };
    t.equal(await authorization(fromTexts(t, [kubeconfig({ user: { exec } })]).source), 'Bearer from-env');
  });

  t.test('an exec plugin does not override a static token of its user', async t => {
    const { source } = fromTexts(t, [kubeconfig({ user: { ...execUser('token'), token: 'static' } })]);
    t.equal(await authorization(source), 'Bearer static');
  });

  t.test('an exec plugin of an auth-provider is used', async t => {
    const provider = { name: 'exec', config: execUser('token') };
    const { source } = fromTexts(t, [kubeconfig({ user: { 'auth-provider': provider } })]);
    t.equal(await authorization(source), 'Bearer plugin-token-1');
  });

  t.test('an exec plugin may return a client certificate', async t => {
    const { source } = fromTexts(t, [kubeconfig({ user: execUser('client-certificate') })]);
    t.match(await source.current(), { headers: {}, tls: { cert: 'plugin-certificate', key: 'plugin-key' } });
  });

  t.test(
    'an exec plugin runs once for concurrent callers, and not again if its credential does not expire',
    async t => {
      const file = join(tempDir(t), 'runs');
      const { source, clock } = fromTexts(t, [kubeconfig({ user: execUser('token', file) })]);
      const headers = await Promise.all(Array.from({ length: 8 }, () => authorization(source)));
      t.strictSame(new Set(headers), new Set(['Bearer plugin-token-1']));
      clock.advance(60_000);
      t.equal(await authorization(source), 'Bearer plugin-token-1');
      t.equal(pluginRuns(file).length, 1);
    },
  );

  t.test('an exec plugin runs again for an expired credential, at most every ten seconds', async t => {
    const file = join(tempDir(t), 'runs');
    const { source, clock } = fromTexts(t, [kubeconfig({ user: execUser('short-lived', file) })]);
    t.equal(await authorization(source), 'Bearer plugin-token-1');
    clock.advance(9999);
    t.equal(await authorization(source), 'Bearer plugin-token-1');
    clock.advance(1);
    t.equal(await authorization(source), 'Bearer plugin-token-2');
  });

  t.test('an exec plugin runs again after its credential was dropped', async t => {
    const file = join(tempDir(t), 'runs');
    const { source } = fromTexts(t, [kubeconfig({ user: execUser('token', file) })]);
    await source.current();
    source.invalidate();
    t.equal(await authorization(source), 'Bearer plugin-token-2');
  });

  t.test('a failed exec plugin is an error with its command, without its output', async t => {
    for (const behaviour of ['fail', 'rubbish', 'no-status']) {
      const { source } = fromTexts(t, [kubeconfig({ user: execUser(behaviour) })]);
      const message = `kubeconfig: the exec plugin ${process.execPath} failed: unknown error`;
      const error = await source.current().then(String, error => error);
      t.strictSame(error, new EndpointError(message), behaviour);
      t.notMatch(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true }), 'secret-plugin-token');
    }
    const { source } = fromTexts(t, [kubeconfig({ user: { exec: { command: '/not/there' } } })]);
    await t.rejects(source.current(), new EndpointError('kubeconfig: the exec plugin /not/there failed: ENOENT'));
  });

  t.test('an exec plugin that returns nothing gives no credential', async t => {
    const { source } = fromTexts(t, [kubeconfig({ user: execUser('nothing') })]);
    t.strictSame((await source.current()).headers, {});
  });

  t.test('a failed exec plugin runs again after a drop', async t => {
    const { source, files } = fromTexts(t, [kubeconfig({ user: execUser('fail') })]);
    await t.rejects(source.current(), { name: 'EndpointError' });
    await writeFile(String(files[0]), kubeconfig({ user: execUser('token') }));
    source.invalidate();
    t.equal(await authorization(source), 'Bearer plugin-token-1');
  });

  t.test('a hanging exec plugin is replaced by a new run after a minute', async t => {
    const file = join(tempDir(t), 'runs');
    const { source, clock } = fromTexts(t, [kubeconfig({ user: execUser('hang-at-first', file) })]);
    const hung = source.current();
    await until(() => pluginRuns(file).length === 1);
    t.teardown(() => endPlugin(file));
    clock.advance(59_999);
    const waiting = source.current();
    clock.advance(1);
    t.equal(await authorization(source), 'Bearer plugin-token-2');
    t.equal(pluginRuns(file).length, 2);
    t.equal(await Promise.race([hung, waiting, 'still waiting']), 'still waiting');
  });
});

t.test('files of a list may be missing, empty or without entries, but not all of them', async t => {
  const listed = (texts: readonly string[]) => {
    const { source, files, directory } = fromTexts(t, texts);
    t.equal(files.length, texts.length);
    return { source, directory };
  };
  const used = kubeconfig({ user: { token: 'used' } });
  const withoutEntries = [
    '',
    '# only a comment\n',
    '---\n',
    'clusters: null\nusers: null\ncontexts: null\ncurrent-context: ""\n',
  ];
  for (const text of withoutEntries) t.equal(await authorization(listed([text, used]).source), 'Bearer used', text);
  const directory = tempDir(t, { used });
  const files = [join(directory, 'missing'), join(directory, 'used')];
  const missing = fromTexts(t, [], { files });
  t.equal(await authorization(missing.source), 'Bearer used');
  await writeFile(String(files[0]), kubeconfig({ user: { token: 'first' } }));
  missing.clock.advance(60_000);
  t.equal(await authorization(missing.source), 'Bearer first', 'a file that appears later takes precedence');
  await t.rejects(
    fromTexts(t, [], { files: ['/not/there', '/nor/there'] }).source.current(),
    new EndpointError('kubeconfig: none of the files exists: /not/there, /nor/there'),
  );
  for (const text of withoutEntries) {
    const message = 'kubeconfig: no current-context; set GATECAR_KUBE_CONTEXT';
    await t.rejects(fromTexts(t, [text]).source.current(), new EndpointError(message), text);
  }
});

t.test('only the first document of a file counts', async t => {
  const used = kubeconfig({ user: { token: 'used' } });
  for (const text of [`${used}\n---\n`, `---\n${used}\n---\n${kubeconfig({ user: { token: 'other' } })}`]) {
    t.equal(await authorization(fromTexts(t, [text]).source), 'Bearer used');
  }
});

t.test('an incomplete entry is an error only if the context uses it', async t => {
  const entries = {
    clusters: [
      { name: 'broken', cluster: {} },
      { name: 'main', cluster: { server: 'https://127.0.0.1:6443' } },
    ],
    contexts: [
      { name: 'broken', context: { cluster: 'broken', user: 'main' } },
      { name: 'incomplete' },
      { name: 'main', context: { cluster: 'main', user: 'main' } },
    ],
    users: [{ user: {} }, { name: 'main', user: { token: 'used' } }],
  };
  t.equal(await authorization(fromTexts(t, [kubeconfig(entries)]).source), 'Bearer used');
  await t.rejects(
    fromTexts(t, [kubeconfig(entries)], { context: 'broken' }).source.current(),
    new EndpointError('kubeconfig: context "broken" names no known cluster'),
  );
});

t.test('an empty proxy or token file counts as absent', async t => {
  for (const proxy of ['', null]) {
    const text = kubeconfig({ cluster: { 'proxy-url': proxy }, user: { token: 'used', tokenFile: '' } });
    const { proxyUrl, headers } = await fromTexts(t, [text]).source.current();
    t.strictSame([proxyUrl, headers], [undefined, { authorization: 'Bearer used' }]);
  }
});

t.test('a value given both as a file and as data is an error that names both', async t => {
  for (const [entry, field, name] of [
    ['cluster', 'certificate-authority', 'cluster "main"'],
    ['user', 'client-certificate', 'user "main"'],
    ['user', 'client-key', 'user "main"'],
  ] as const) {
    const text = kubeconfig({ [entry]: { [field]: 'file', [`${field}-data`]: base64('data') } });
    await t.rejects(
      fromTexts(t, [text]).source.current(),
      new EndpointError(`kubeconfig: ${name} has both ${field} and ${field}-data`),
    );
  }
});
