import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { VERSION } from '../../src/app.ts';
import { ask } from '../fixtures/ask.ts';
import { startOtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { freePort } from './fixtures/support/free-port.ts';
import { Children } from './fixtures/support/process-cleanup.ts';
import { until } from './fixtures/support/until.ts';

// What `npm pack` makes, installed where nothing else is, as users of the package have it.

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');

t.test('the package', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'gatecar-e2e-pack-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', directory], {
    cwd: root,
  });
  // What the build prints comes before it.
  const said: unknown = JSON.parse(stdout.slice(stdout.search(/^[[{]$/m)));
  const [packed] = Object.values(said as Record<string, { filename: string; files: { path: string }[] }>);
  const tarball = join(directory, packed?.filename ?? '');
  const paths = packed?.files.map(({ path }) => path) ?? [];

  t.test('holds the bundle and the papers, and no source', async t => {
    for (const path of ['package.json', 'LICENSE', 'README.md', 'CHANGELOG.md', 'SECURITY.md']) {
      t.ok(paths.includes(path), path);
    }
    for (const path of ['config.schema.json', 'audit.schema.json']) {
      t.ok(paths.includes(path), path);
    }
    for (const path of ['gatecar.js', 'sbom.cdx.json', 'licenses.txt', 'examples/nginx/nginx.conf']) {
      t.ok(paths.includes(`dist/${path}`), path);
    }
    t.strictSame(
      paths.filter(path => path.includes('/') && !path.startsWith('dist/')),
      [],
    );
  });

  // Nothing but the package itself: what it needs at run time is in the bundle.
  await run('tar', ['-xzf', tarball, '-C', directory]);
  const program = join(directory, 'package/dist/gatecar.js');

  t.test('runs by npx with nothing but itself, where no registry is, and says its version', async t => {
    const npx = ['--yes', '--offline', '--package', tarball, '--', 'gatecar', '--version'];
    const env = { ...process.env, npm_config_cache: join(directory, 'empty-cache') };
    t.equal((await run('npx', npx, { cwd: directory, env })).stdout, `${VERSION}\n`);
  });

  t.test('runs without any other package: gatecar dev answers the lines it prints', async t => {
    // Of its own: it goes with the process.
    const own = await mkdtemp(join(directory, 'dev-'));
    const children = new Children(own);
    const listen = `127.0.0.1:${await freePort()}`;
    const log = join(own, 'log');
    const flags = [`--listen=${listen}`, `--ops-listen=127.0.0.1:${await freePort()}`];
    const dev = await children.start(process.execPath, [program, 'dev', ...flags], log);
    t.teardown(async () => {
      await dev.stop();
      await children.close();
    });
    const lines = await until('four lines to paste', async () => {
      const found = (await readFile(log, 'utf8')).match(/^curl .*$/gm) ?? [];
      return found.length === 4 && found;
    });
    const statuses: string[] = [];
    for (const line of lines) {
      const { stdout } = await run('bash', ['-c', `${line} --silent --output /dev/null --write-out '%{http_code}'`]);
      statuses.push(stdout.replace(/^[\s\S]*\n/, ''));
    }
    t.strictSame(statuses, ['200', '401', '401', '401']);
  });

  t.test('prints the configuration of a gateway, which is the example', async t => {
    const { stdout: printed } = await run(process.execPath, [program, 'gateway', 'envoy-http']);
    t.equal(printed, await readFile(join(root, 'examples/envoy-http/envoy.yaml'), 'utf8'));
  });

  t.test('sends spans where OpenTelemetry’s variables say, with what is in the bundle', async t => {
    const receiver = await startOtlpReceiver();
    t.teardown(() => receiver.close());
    const own = await mkdtemp(join(directory, 'traced-'));
    const children = new Children(own);
    const listen = `127.0.0.1:${await freePort()}`;
    const child = await children.start(process.execPath, [program, 'serve'], join(own, 'log'), {
      GATECAR_LISTEN: listen,
      GATECAR_OPS_LISTEN: `127.0.0.1:${await freePort()}`,
      GATECAR_KUBE_API_URL: 'http://127.0.0.1:1',
      GATECAR_SHUTDOWN_DELAY: '0s',
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    });
    await until('it listens', async () => (await readFile(join(own, 'log'), 'utf8')).includes('"listening"'));
    t.equal((await ask(`http://${listen}`)).status, 401);
    await child.stop();
    t.match(receiver.spans, [{ name: 'authorize', attributes: { 'gatecar.reason': 'credentials_missing' } }]);
  });

  t.test('its bill of materials and its licences name what is in the bundle, and nothing else', async t => {
    const read = (name: string) => readFile(join(directory, 'package/dist', name), 'utf8');
    const bill = JSON.parse(await read('sbom.cdx.json'));
    const names: string[] = bill.components.map(({ name }: { name: string }) => name);
    t.match(bill, { bomFormat: 'CycloneDX', metadata: { component: { name: 'gatecar', version: VERSION } } });
    for (const name of ['fastify', '@kubernetes/client-node', 'undici']) t.ok(names.includes(name), name);
    for (const name of ['tap', 'typescript', 'esbuild', 'node', '@grpc/grpc-js', 'protobufjs'])
      t.notOk(names.includes(name), name);
    const texts = await read('licenses.txt');
    for (const { name, version, hashes } of bill.components) {
      t.match(hashes?.[0], { alg: 'SHA-512', content: /^[0-9a-f]{128}$/ }, name);
      t.ok(texts.includes(`\n${name} ${version} (`), name);
    }
  });
});
