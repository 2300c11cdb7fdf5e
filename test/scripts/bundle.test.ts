import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { isBuiltin } from 'node:module';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { bundle } from '../../scripts/bundle.ts';
import { childEnv } from '../fixtures/child-env.ts';
import { kubeconfig } from '../fixtures/kubeconfig.ts';
import { listenerFiles } from '../fixtures/listener-files.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { pem, startTlsServer } from '../fixtures/tls-server.ts';
import { until } from '../fixtures/until.ts';

t.setTimeout(120_000);

const root = join(import.meta.dirname, '../..');

interface Run {
  /** The names of the bundle's files that the process loaded. */
  readonly files: readonly string[];
  readonly output: string;
}

/** Runs before the bundle and reports the loaded files on request. It does not delay the exit. */
const REPORT = `
  import { registerHooks } from 'node:module';
  const files = [];
  registerHooks({ load(url, context, next) { files.push(url.replace(/.*\\//, '')); return next(url, context); } });
  process.on('message', () => process.send(files));
  process.channel.unref();`;

/** The maximum size of the bundle's files, each packed with gzip, in bytes. */
const MAX_PACKED_BYTES = 950_000;

/** Modules loaded on demand: `gatecar dev`, one-shot commands, gRPC and tracing. */
const LAZY = ['cli/one-shot-commands', 'dev/dev', 'gateway/grpc/listener', 'observability/tracing'].map(
  name => `src/${name}.ts`,
);

/** Optional native addons that `ws` tries to load. */
const OPTIONAL = ['bufferutil', 'utf-8-validate'];

t.test('the bundle runs without packages and is small', async t => {
  // The directory has no packages, so the bundle can load only itself.
  const directory = tempDir(t, { 'package.json': '{"version":"0.0.0-test"}', token: 'own', 'ca.crt': 'CA' });
  const outputs = Object.entries((await bundle(root, join(directory, 'dist'))).outputs);
  const sourcesIn = (files: readonly string[]): string[] =>
    outputs.flatMap(([path, { inputs }]) => (files.includes(fileName(path)) ? Object.keys(inputs) : []));
  const packagesIn = (files: readonly string[]): string[] =>
    sourcesIn(files).flatMap(path => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []);
  const start = (settings: Record<string, string>) => runOnce(join(directory, 'dist/gatecar.js'), settings);
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const url = { GATECAR_KUBE_API_URL: standIn.url };

  t.test('the bundle imports only itself and built-in modules', t => {
    const external = outputs.flatMap(([, { imports }]) =>
      imports.filter(({ external }) => external).map(({ path }) => path),
    );
    t.ok(external.length > 0);
    t.strictSame(external.filter(path => !isBuiltin(path)).toSorted(), OPTIONAL);
    t.end();
  });

  t.test('the bundle starts in a pod or with an address without loading its lazy modules', async t => {
    const pod = {
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: new URL(standIn.url).port,
      GATECAR_KUBE_TOKEN_FILE: join(directory, 'token'),
      GATECAR_KUBE_CA_FILE: join(directory, 'ca.crt'),
    };
    for (const settings of [url, pod]) {
      const { files } = await start(settings);
      const packages = packagesIn(files);
      t.ok(packages.includes('fastify') && packages.includes('undici'));
      t.notOk(packages.includes('@kubernetes/client-node'));
      t.strictSame(
        LAZY.filter(path => sourcesIn(files).includes(path)),
        [],
      );
    }
  });

  t.test('the bundle loads a lazy module if a setting requires it', async t => {
    const config = kubeconfig({ cluster: { server: standIn.url } });
    const { files, output } = await start({ GATECAR_KUBECONFIG: join(tempDir(t, { config }), 'config') });
    t.ok(packagesIn(files).includes('@kubernetes/client-node'));
    t.match(output, /API server reachable/);
    const grpc = await start({ ...url, GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
    t.ok(sourcesIn(grpc.files).includes('src/gateway/grpc/listener.ts'));
    const all = sourcesIn(outputs.map(([path]) => fileName(path)));
    t.ok(LAZY.every(path => all.includes(path)));
  });

  t.test('the bundle starts with TLS listeners', async t => {
    const { settings } = await listenerFiles(t);
    t.match((await start({ ...url, ...settings })).output, /API server reachable/);
  });

  t.test('the bundle sends reviews through a proxy', async t => {
    const api = await startTlsServer(t);
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', status: { authenticated: false } };
    api.handle = (_request, response) => response.writeHead(201).end(JSON.stringify(review));
    const tunnels: string[] = [];
    const proxy = createServer().on('connect', (request, socket) => {
      tunnels.push(request.url ?? '');
      const onward = connect(Number(new URL(api.url).port), '127.0.0.1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
      socket.on('error', () => onward.destroy()).pipe(onward);
      onward.on('error', () => socket.destroy()).pipe(socket);
    });
    t.teardown(() => proxy.close());
    await once(proxy.listen(0, '127.0.0.1'), 'listening');
    const { port } = proxy.address() as AddressInfo;
    const cluster = {
      server: api.url,
      'proxy-url': `http://127.0.0.1:${port}`,
      'certificate-authority-data': Buffer.from(pem('ca.crt')).toString('base64'),
    };
    const config = kubeconfig({ cluster });
    const { output } = await start({ GATECAR_KUBECONFIG: join(tempDir(t, { config }), 'config') });
    t.match(output, /API server reachable/);
    t.ok(tunnels.length > 0 && tunnels.every(target => target === new URL(api.url).host));
  });

  t.test('the bundle is smaller than its limit', t => {
    const sizes = outputs.map(([path]) => gzipSync(readFileSync(join(root, path))).length);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    t.ok(bytes < MAX_PACKED_BYTES, `${bytes} bytes, packed`);
    t.end();
  });
});

t.test('the Dockerfile copies every script that the build imports', t => {
  const read = (name: string) => readFileSync(join(root, name), 'utf8');
  const importedBy = (name: string): string[] =>
    [...read(`scripts/${name}`).matchAll(/ from '\.\/(.*)'/g)].flatMap(([, file = '']) => [file, ...importedBy(file)]);
  const copied = /^COPY (scripts\/.*) scripts\/$/m.exec(read('Dockerfile'))?.[1]?.split(' ') ?? [];
  const needed = ['build.ts', ...importedBy('build.ts')].map(name => `scripts/${name}`);
  t.ok(needed.length > 2);
  t.strictSame(copied.toSorted(), needed.toSorted());
  for (const name of needed) t.ok(read('.dockerignore').split('\n').includes(`!${name}`), name);
  t.end();
});

function fileName(path: string): string {
  return path.replace(/.*\//, '');
}

/** Runs the bundle until its first review has succeeded or failed. */
async function runOnce(program: string, settings: Record<string, string>): Promise<Run> {
  const report = `data:text/javascript,${encodeURIComponent(REPORT)}`;
  const free = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0', GATECAR_SHUTDOWN_DELAY: '0' };
  const child = spawn(process.execPath, ['--import', report, program], {
    env: { ...childEnv(), ...free, ...settings },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', chunk => {
      output += chunk;
    });
  }
  const ended = once(child, 'close');
  const reported = once(child, 'message');
  await Promise.race([until(() => /API server (un)?reachable/.test(output)), ended]);
  if (child.exitCode !== null) throw new Error(`gatecar ended during its start:\n${output}`);
  child.send('report');
  const [files] = await reported;
  child.kill('SIGTERM');
  await ended;
  return { files, output };
}
