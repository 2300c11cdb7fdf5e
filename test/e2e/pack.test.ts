import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { VERSION } from '../../src/app.ts';
import { startOtlpReceiver } from '../fixtures/otlp-receiver.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { freePort } from './fixtures/support/free-port.ts';
import { ProcessGroup } from './fixtures/support/process-cleanup.ts';
import { until } from './fixtures/support/until.ts';

// Installs the output of `npm pack` without anything else, as users of the package do.

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');

t.test('the npm package', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'gatecar-e2e-pack-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', directory], {
    cwd: root,
  });
  // The output of the build precedes the JSON.
  const packOutput: unknown = JSON.parse(stdout.slice(stdout.search(/^[[{]$/m)));
  const [tarballInfo] = Object.values(packOutput as Record<string, { filename: string; files: { path: string }[] }>);
  const tarball = join(directory, tarballInfo?.filename ?? '');
  const paths = tarballInfo?.files.map(({ path }) => path) ?? [];

  t.test('the package holds the bundle and its documents, and no source', async t => {
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

  // Only the package itself: the bundle contains everything that it needs.
  await run('tar', ['-xzf', tarball, '-C', directory]);
  const program = join(directory, 'package/dist/gatecar.js');

  t.test('the package runs offline by npx and prints its version', async t => {
    const npx = ['--yes', '--offline', '--package', tarball, '--', 'gatecar', '--version'];
    const env = { ...process.env, npm_config_cache: join(directory, 'empty-cache') };
    t.equal((await run('npx', npx, { cwd: directory, env })).stdout, `${VERSION}\n`);
  });

  t.test('the package runs without any other package: gatecar dev answers the commands it prints', async t => {
    // A separate directory, removed with the process.
    const workDirectory = await mkdtemp(join(directory, 'dev-'));
    const children = new ProcessGroup(workDirectory);
    const listen = `127.0.0.1:${await freePort()}`;
    const log = join(workDirectory, 'log');
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
    const tokens = lines.map(line => /Bearer ([^'"]+)/.exec(line)?.[1] ?? '');
    const statuses: number[] = [];
    for (const token of tokens) statuses.push((await sendRequest(`http://${listen}`, { token })).status);
    t.strictSame(statuses, [200, 401, 401, 401]);
  });

  t.test('the package prints the configuration of a gateway, which is the example', async t => {
    const { stdout: printed } = await run(process.execPath, [program, 'gateway', 'envoy-http']);
    t.equal(printed, await readFile(join(root, 'examples/envoy-http/envoy.yaml'), 'utf8'));
  });

  t.test('the package exports spans as the OpenTelemetry variables say', async t => {
    const receiver = await startOtlpReceiver();
    t.teardown(() => receiver.close());
    const workDirectory = await mkdtemp(join(directory, 'traced-'));
    const children = new ProcessGroup(workDirectory);
    const listen = `127.0.0.1:${await freePort()}`;
    const child = await children.start(process.execPath, [program, 'serve'], join(workDirectory, 'log'), {
      GATECAR_LISTEN: listen,
      GATECAR_OPS_LISTEN: `127.0.0.1:${await freePort()}`,
      GATECAR_KUBE_API_URL: 'http://127.0.0.1:1',
      GATECAR_SHUTDOWN_DELAY: '0s',
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    });
    await until('it listens', async () => (await readFile(join(workDirectory, 'log'), 'utf8')).includes('"listening"'));
    t.equal((await sendRequest(`http://${listen}`)).status, 401);
    await child.stop();
    t.match(receiver.spans, [{ name: 'authorize', attributes: { 'gatecar.reason': 'credentials_missing' } }]);
  });

  t.test('the package’s bill of materials and licences list exactly what is in the bundle', async t => {
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
