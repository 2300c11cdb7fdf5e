import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { gzipSync } from 'node:zlib';
import type { Metafile } from 'esbuild';
import t from 'tap';
import { bundle } from '../../scripts/bundle.ts';
import { kubeconfig } from '../fixtures/kubeconfig.ts';
import { listenerFiles } from '../fixtures/listener-files.ts';
import { scratch } from '../fixtures/scratch.ts';
import { accepts, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { pem, startTlsServer } from '../fixtures/tls-server.ts';
import { until } from '../fixtures/until.ts';

// What a start costs is what it loads: that is counted here, since time and memory depend on the machine.

t.setTimeout(120_000);

const root = join(import.meta.dirname, '../..');

/** What a process has loaded: files of the bundle, by name, and built-in modules; and what it wrote. */
interface Loaded {
  readonly files: readonly string[];
  readonly builtIns: readonly string[];
  readonly output: string;
}

/** Run in the process before the bundle, to tell when asked. It is no listener that would keep the process. */
const TELL = `
  import { registerHooks } from 'node:module';
  const files = [];
  registerHooks({ load(url, context, next) { files.push(url.replace(/.*\\//, '')); return next(url, context); } });
  process.on('message', () => {
    const builtIns = process.moduleLoadList.flatMap(one => /^NativeModule (.*)/.exec(one)?.[1] ?? []);
    process.send({ files, builtIns });
  });
  process.channel.unref();`;

/** What answers over HTTP, asks, logs and counts; another one is a reason to look at what it costs. */
const AT_START: readonly string[] = [
  ...[
    '@fastify/error',
    '@fastify/forwarded',
    '@fastify/proxy-addr',
    '@pinojs/redact',
    'abstract-logging',
    'atomic-sleep',
  ],
  ...['avvio', 'fast-decode-uri-component', 'fast-deep-equal', 'fast-json-stringify', 'fast-querystring', 'fastify'],
  ...['fastq', 'find-my-way', 'ipaddr.js', 'lru-cache', 'on-exit-leak-free', 'pino', 'pino-std-serializers'],
  ...['process-warning', 'prom-client', 'quick-format-unescaped', 'ret', 'reusify', 'rfdc', 'safe-regex2'],
  ...['safe-stable-stringify', 'secure-json-parse', 'sonic-boom', 'toad-cache', 'undici'],
];

/** What fetch, WebSocket, HTTP/2 and reading of arguments are made of, and what is for failures, directories and TLS listeners. */
const NEEDLESS_BUILT_INS =
  /^(internal\/deps\/undici|internal\/webstreams\/|internal\/http2\/core|internal\/util\/parse_args|(assert|fs\/promises|https)$)/;

/** All of its chunks, in bytes. */
const MAX_PACKED_BYTES = 640_000;

t.test('the bundle', async t => {
  // In a directory with what it reads beside it.
  const directory = scratch(t, { 'package.json': '{"version":"0.0.0-test"}', token: 'ours', 'ca.crt': 'CA' });
  const outputs = Object.entries((await bundle(root, join(directory, 'dist'))).outputs);
  const packagesIn = (files: readonly string[]): string[] => {
    const paths = outputs.flatMap(([path, { inputs }]) => (files.includes(fileName(path)) ? held(inputs) : []));
    return [...new Set(paths.flatMap(path => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []))].sort();
  };
  const start = (settings: Record<string, string>) => load(join(directory, 'dist/gatecar.js'), settings);
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const url = { GATECAR_KUBE_API_URL: standIn.url };

  t.test('loads nothing at its start that was not asked for', async t => {
    const pod = {
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: new URL(standIn.url).port,
      GATECAR_KUBE_TOKEN_FILE: join(directory, 'token'),
      GATECAR_KUBE_CA_FILE: join(directory, 'ca.crt'),
    };
    for (const settings of [url, pod]) {
      const { files, builtIns } = await start(settings);
      t.strictSame(packagesIn(files), AT_START);
      t.strictSame(
        files.filter(file => /^(dev|grpc|tracing|command)/.test(file)),
        [],
      );
      t.ok(builtIns.includes('http'));
      t.strictSame(
        builtIns.filter(name => NEEDLESS_BUILT_INS.test(name)),
        [],
      );
    }
  });

  t.test('loads what is asked for', async t => {
    const config = kubeconfig({ cluster: { server: standIn.url } });
    const { files, output } = await start({ GATECAR_KUBECONFIG: join(scratch(t, { config }), 'config') });
    t.ok(packagesIn(files).includes('@kubernetes/client-node'));
    t.match(output, /the API server can be asked/);
    const grpc = await start({ ...url, GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
    t.ok(grpc.builtIns.includes('internal/http2/core'));
    const { settings } = await listenerFiles(t);
    const tls = await start({ ...url, ...settings });
    t.ok(tls.builtIns.includes('https'));
  });

  t.test('asks through a proxy', async t => {
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
    const { output } = await start({ GATECAR_KUBECONFIG: join(scratch(t, { config }), 'config') });
    t.match(output, /the API server can be asked/);
    t.ok(tunnels.length > 0 && tunnels.every(target => target === new URL(api.url).host));
  });

  t.test('is small', t => {
    const sizes = outputs.map(([path]) => gzipSync(readFileSync(join(root, path))).length);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    t.ok(bytes < MAX_PACKED_BYTES, `${bytes} bytes, packed`);
    t.end();
  });
});

t.test('the image is given every script that makes it', t => {
  const read = (name: string) => readFileSync(join(root, name), 'utf8');
  const importedBy = (name: string): string[] =>
    [...read(`scripts/${name}`).matchAll(/ from '\.\/(.*)'/g)].flatMap(([, one = '']) => [one, ...importedBy(one)]);
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

function held(inputs: Metafile['outputs'][string]['inputs']): string[] {
  return Object.entries(inputs).flatMap(([path, { bytesInOutput }]) => (bytesInOutput > 0 ? [path] : []));
}

/** Runs it until it has asked the API server, whatever came of that. */
async function load(program: string, settings: Record<string, string>): Promise<Loaded> {
  const tell = `data:text/javascript,${encodeURIComponent(TELL)}`;
  const free = { GATECAR_LISTEN: '127.0.0.1:0', GATECAR_OPS_LISTEN: '127.0.0.1:0', GATECAR_SHUTDOWN_DELAY: '0' };
  const child = spawn(process.execPath, ['--import', tell, program], {
    env: { PATH: process.env['PATH'], ...free, ...settings },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', chunk => {
      output += chunk;
    });
  }
  const ended = once(child, 'close');
  const told = once(child, 'message');
  await Promise.race([until(() => /the API server can/.test(output)), ended]);
  if (child.exitCode !== null) throw new Error(`it ended at its start:\n${output}`);
  child.send('tell');
  const [loaded] = await told;
  child.kill('SIGTERM');
  await ended;
  return { ...loaded, output };
}
