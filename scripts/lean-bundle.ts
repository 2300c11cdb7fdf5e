import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'esbuild';

// What a start need not load is kept out of its way, or out of the bundle. Each row says why that is not needed here, and where
// it is asked for after all, it says that it is not there.

/** An import, by whom, and what they get instead. */
interface Instead {
  readonly of: string;
  /** The file that imports it, or the end of its path's folder; everybody where it is left out. */
  readonly by?: string;
  readonly code: string;
}

const NEVER = (what: string) => `throw new Error('${what} is not in this bundle');`;
const ON_FIRST_USE = (builtIn: string) =>
  `module.exports = new Proxy({}, { get: (_, name) => process.getBuiltinModule('${builtIn}')[name] });`;

/** `node:assert`, which is a call of nothing where all is well. */
const ASSERT = `
  const own = () => process.getBuiltinModule('node:assert');
  module.exports = (value, ...told) => {
    if (!value) own()(value, ...told);
  };
  Object.setPrototypeOf(module.exports, new Proxy({}, { get: (_, name) => own()[name] }));`;

/** Built-ins of which we use functions alone, and those only with TLS. */
const ON_FIRST_CALL: readonly string[] = ['node:https', 'node:tls'];

/** A function of `node:fs/promises`, which itself comes with watching, directories and reading by lines, and with a megabyte. */
const PROMISED = (name: string) =>
  `process.getBuiltinModule('node:util').promisify(process.getBuiltinModule('node:fs').${name})`;

const INSTEAD: readonly Instead[] = [
  // What connects and sends; not its caches, mocks, interceptors and WebSockets, nor fetch, with which client-node would ask for
  // more than a kubeconfig says. Undici's own index gives dispatchers their methods: a proxy's tunnel needs one of them.
  {
    of: 'undici',
    code: `
      exports.Agent = require('undici/lib/dispatcher/agent.js');
      Object.defineProperty(exports, 'ProxyAgent', { get: () => {
        require('undici/lib/dispatcher/dispatcher.js').prototype.connect = require('undici/lib/api/api-connect.js');
        return require('undici/lib/dispatcher/proxy-agent.js');
      } });
      exports.fetch = () => { ${NEVER('fetch of undici')} };`,
  },
  // For bodies that are forms, streams or blobs: ours are text.
  {
    of: '../web/fetch/body.js',
    by: 'undici/lib/dispatcher/client-h1.js',
    code: `exports.extractBody = () => { ${NEVER('extractBody of undici')} };`,
  },
  { of: '../web/fetch/formdata', by: 'undici/lib/core/request.js', code: '' },
  {
    of: '../web/webidl',
    by: 'undici/lib/core/request.js',
    code: 'exports.webidl = { is: { FormData: () => false } };',
  },
  // The API server is asked over HTTP/1.1 (allowH2: false).
  {
    of: './client-h2.js',
    by: 'undici/lib/dispatcher/client.js',
    code: `module.exports = () => { ${NEVER('HTTP/2 of undici')} };`,
  },
  // An experiment of undici's, off unless asked for: half of what this bundle would weigh in WebAssembly.
  {
    of: './parser-h1.js',
    by: 'undici/lib/dispatcher/client-h1.js',
    code: `
      exports.getMiloEnabled = () => false;
      exports.H1Parser = class { constructor() { ${NEVER('Milo')} } };`,
  },
  // No route has a schema.
  { of: '@fastify/ajv-compiler', by: 'fastify/lib', code: `module.exports = () => () => { ${NEVER('Ajv')} };` },
  {
    of: '@fastify/fast-json-stringify-compiler',
    by: 'fastify/lib',
    code: `module.exports = () => () => { ${NEVER('fast-json-stringify')} };`,
  },
  // For plugins that say which version of Fastify they are made for.
  { of: 'semver', by: 'fastify/lib/plugin-utils.js', code: `exports.satisfies = () => { ${NEVER('semver')} };` },
  { of: 'node:http2', by: 'fastify/lib/server.js', code: ON_FIRST_USE('node:http2') },
  { of: 'node:https', by: 'fastify/lib/server.js', code: ON_FIRST_USE('node:https') },
  // For tests that ask without a connection.
  { of: 'light-my-request', by: 'fastify/fastify.js', code: `module.exports = () => { ${NEVER('inject')} };` },
  { of: 'worker_threads', by: 'pino/lib/tools.js', code: 'exports.isMainThread = true;' },
  // Lines are written by the process itself, not by a thread of its own.
  { of: './transport', by: 'pino/lib/tools.js', code: `module.exports = () => { ${NEVER('transport of pino')} };` },
  { of: './lib/transport', by: 'pino/pino.js', code: `module.exports = () => { ${NEVER('transport of pino')} };` },
  // For the host's name, which no line of ours has.
  { of: 'node:os', by: 'pino/pino.js', code: 'exports.hostname = () => undefined;' },
  // For the addresses of an interface, where Fastify itself listens.
  { of: 'node:os', by: 'fastify/lib/server.js', code: ON_FIRST_USE('node:os') },
  // What tells an assertion that failed comes with comparison and colours.
  { of: 'node:assert', by: 'fastify/lib', code: ASSERT },
  { of: 'node:assert', by: 'find-my-way', code: ASSERT },
  { of: 'node:assert', by: 'undici/lib', code: ASSERT },
  { of: 'assert', by: 'sonic-boom', code: ASSERT },
  // What is scraped; not summaries, clusters of processes and what pushes.
  {
    of: 'prom-client',
    code: `
      exports.Registry = require('prom-client/lib/registry.js');
      exports.collectDefaultMetrics = require('prom-client/lib/defaultMetrics.js');`,
  },
  // Two thousand nodes, in which to find names of headers faster: an answer has ten.
  { of: './tree', by: 'undici/lib/core/util.js', code: 'exports.tree = { lookup: () => null };' },
  // For exemplars, which are off.
  { of: '@opentelemetry/api', by: 'prom-client/lib/metrics', code: '' },
];

/** @param root where `node_modules` is. Fails the build where a package no longer imports what a row is about. */
export function leanBundle(root: string): Plugin {
  return {
    name: 'lean-bundle',
    setup({ onResolve, onLoad, onEnd }) {
      const unused = new Set(INSTEAD);
      const own = join(root, 'src/');
      onResolve({ filter: /./ }, ({ path, importer, kind }) => {
        const row = INSTEAD.find(({ of, by = '' }) => of === path && isIn(importer, by));
        if (row !== undefined) {
          unused.delete(row);
          return { path: [row.by, row.of].join(':'), namespace: 'instead', pluginData: row };
        }
        if (kind !== 'import-statement' || !path.startsWith('node:') || !importer.startsWith(own)) return undefined;
        return { path: `${importer}:${path}`, namespace: 'built-in', pluginData: builtIn(path, importer) };
      });
      onLoad({ filter: /./, namespace: 'instead' }, ({ pluginData }) => ({
        contents: (pluginData as Instead).code,
        loader: 'js',
        resolveDir: root,
      }));
      onLoad({ filter: /./, namespace: 'built-in' }, ({ pluginData }) => ({
        contents: String(pluginData),
        loader: 'js',
      }));
      onEnd(() => ({
        errors: [...unused].map(({ of, by = 'nobody' }) => ({
          text: `${by} does not import ${of}: is it still needed?`,
        })),
      }));
    },
  };
}

/**
 * What a file of ours imports of a built-in, and nothing else of it. To an ES module Node.js hands every export, for which it
 * makes those that are made on first use: `node:http` alone comes with fetch, WebSocket and web streams, and with 10 MiB.
 */
function builtIn(name: string, importer: string): string {
  const imports = readFileSync(importer, 'utf8').matchAll(/^import (?!type )([^'"]*) from '([^']*)';$/gm);
  const clauses = [...imports].flatMap(([, clause = '', from]) => (from === name ? [clause] : []));
  const named = clauses.flatMap(clause => /\{([^}]*)\}/.exec(clause)?.[1]?.split(',') ?? []);
  const names = named
    .map(one => one.trim().replace(/ as .*/, ''))
    .filter(one => one !== '' && !one.startsWith('type '));
  if (clauses.length === 0 || clauses.some(clause => clause.includes('*')))
    throw new Error(`${importer}: what of ${name}?`);
  const own = [...new Set(names)];
  if (ON_FIRST_CALL.includes(name))
    return own
      .map(one => `export const ${one} = (...of) => process.getBuiltinModule('${name}').${one}(...of);`)
      .join('\n');
  if (name === 'node:fs/promises') return own.map(one => `export const ${one} = ${PROMISED(one)};`).join('\n');
  return `
    const all = process.getBuiltinModule('${name}');
    export default all;
    export const { ${own.join(', ')} } = all;`;
}

function isIn(importer: string, by: string): boolean {
  const place = join('node_modules', by);
  return by === '' || importer.endsWith(place) || importer.includes(`${place}/`);
}
