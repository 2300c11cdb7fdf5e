import { globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import t from 'tap';
import coverageMap from './fixtures/coverage-map.ts';

// Checks the layout of the source. If a rule no longer fits, change it here, with the reason in the
// commit.

const ROOT = join(import.meta.dirname, '..');
const SRC = join(ROOT, 'src');

/** What each folder and each file at the root of `src/` may import. No folder imports `app.ts`. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  credential: [],
  identity: [],
  files: [],
  limits: [],
  system: [],
  config: ['identity'],
  decision: ['identity'],
  policy: ['decision', 'identity'],
  tls: ['config', 'files', 'observability', 'system'],
  kube: ['config', 'decision', 'files', 'system', 'tls'],
  jwks: ['credential', 'kube', 'system'],
  authentication: ['credential', 'decision', 'identity', 'jwks', 'kube', 'system'],
  'authorize.ts': ['authentication', 'credential', 'decision', 'policy'],
  gateway: ['authorize.ts', 'credential', 'decision', 'identity', 'limits', 'system', 'tls'],
  observability: ['authentication', 'config', 'credential', 'decision', 'gateway', 'identity', 'tls'],
  server: ['authentication', 'config', 'credential', 'observability', 'system'],
  'auth-stages.ts': ['authentication', 'config', 'credential', 'jwks', 'kube', 'observability', 'server'],
  'auth-pipeline.ts': ['auth-stages.ts', 'authentication', 'authorize.ts', 'kube', 'observability', 'policy', 'server'],
  'app.ts': ['auth-pipeline.ts', 'config', 'gateway', 'kube', 'limits', 'observability', 'server', 'tls'],
  'serve.ts': ['app.ts', 'config', 'kube', 'observability', 'server'],
  // biome-ignore format: a list of names
  cli: [
    'authentication', 'authorize.ts', 'config', 'credential', 'decision', 'gateway', 'identity',
    'jwks', 'kube', 'limits', 'policy', 'server', 'system', 'tls',
  ],
  dev: ['authentication', 'cli', 'config', 'credential', 'identity', 'observability', 'serve.ts'],
  'main.ts': ['app.ts', 'cli', 'config', 'dev', 'kube', 'observability', 'serve.ts', 'server', 'tls'],
};

/**
 * `observability` imports only types from these folders and calls none of their code. One file
 * imports a value: the list of causes, a constant, because it has a counter for each.
 */
const TYPES_ONLY_FOR_OBSERVABILITY = ['authentication', 'config', 'decision', 'gateway', 'tls'];
const IMPORTS_CAUSES = 'observability/counters.ts';

/** Every module may import the constants: they import nothing. */
const CONSTANTS = 'limits/constants.ts';

const MAX_FILES_PER_FOLDER = 12;

/** Names of private interfaces of Node, V8 and packages, which gatecar must not use. */
const PRIVATE_INTERFACES = /_header\b|_httpMessage|_parent\b|getOwnPropertySymbols|setFlagsFromString|execFn/;

/** The files that may import each package: its values, or only its types. */
const PACKAGE_IMPORTERS: Readonly<
  Record<string, { readonly values: readonly string[]; readonly types?: readonly string[] }>
> = {
  '@kubernetes/client-node': {
    values: ['kube/kubeconfig.ts'],
    types: ['kube/exec-plugin.ts', 'kube/kubeconfig-auth.ts'],
  },
  '@opentelemetry/api': { values: ['observability/tracing.ts'] },
  '@opentelemetry/exporter-trace-otlp-proto': { values: ['observability/tracing.ts'] },
  '@opentelemetry/resources': { values: ['observability/tracing.ts'] },
  '@opentelemetry/sdk-trace': { values: ['observability/tracing.ts'] },
  fastify: {
    values: ['gateway/http/listener.ts', 'server/ops-listener.ts'],
    types: ['app.ts', 'server/listen.ts'],
  },
  'lru-cache': {
    values: [
      'authentication/cache/result-store.ts',
      'authentication/failure-counter.ts',
      'observability/logging/log-rate-limit.ts',
    ],
  },
  pino: { values: ['observability/logging/logger.ts'] },
  'prom-client': { values: ['observability/metrics.ts'] },
  undici: { values: ['kube/dispatcher.ts'], types: ['kube/http-request.ts'] },
};

/** The files that may read a token's characters, and why. */
const REVEALS_TOKENS: Readonly<Record<string, string>> = {
  'authentication/token-review.ts': 'sends it for review',
  'jwks/cluster-jwks.ts': 'verifies its signature',
  'authentication/cache/cache-key.ts': 'hashes it, salted',
  'credential/jwt-claims.ts': 'reads its claims',
  'credential/redaction.ts': 'redacts its encodings from text',
  'credential/token.ts': 'redacts it from text',
  'observability/logging/token-fingerprint.ts': 'hashes it for the log',
};

const MAX_LINES = 250;

/** Files that may be longer, and why. */
const LONGER: Readonly<Record<string, { readonly lines: number; readonly why: string }>> = {
  'config/schema.ts': { lines: 345, why: 'one list of all settings is easier to read than two' },
  'limits/constants.ts': { lines: 380, why: 'one list of all constants is easier to read than two' },
};

const MAX_FUNCTION_LINES = 60;

/** Functions that may be longer, and why. */
const LONGER_FUNCTIONS: Readonly<Record<string, string>> = {};

interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
}

interface SourceFile {
  /** Below `src/`. */
  readonly path: string;
  readonly text: string;
  readonly imports: readonly Import[];
}

const STATIC = /^(?:import|export)\s+(type\s)?([^;'"]*?)\s*from\s+'([^']+)'/gm;
const BARE = /^import\s+'([^']+)'/gm;
const DYNAMIC = /\bimport\(\s*'([^']+)'/g;

function importsOf(text: string): Import[] {
  const found: Import[] = [];
  for (const [, type, names = '', specifier = ''] of text.matchAll(STATIC)) {
    const listed =
      /^\{(.*)\}$/s
        .exec(names.trim())?.[1]
        ?.split(',')
        .filter(name => name.trim() !== '') ?? [];
    const allTypes = listed.length > 0 && listed.every(name => /^\s*type\s/.test(name));
    found.push({ specifier, typeOnly: type !== undefined || allTypes });
  }
  for (const [, specifier = ''] of [...text.matchAll(BARE), ...text.matchAll(DYNAMIC)]) {
    found.push({ specifier, typeOnly: false });
  }
  return found;
}

function read(pattern: string): SourceFile[] {
  return globSync(pattern, { cwd: SRC })
    .sort()
    .map(path => {
      const text = readFileSync(join(SRC, path), 'utf8');
      return { path, text, imports: importsOf(text) };
    });
}

const files = read('**/*.ts');

/** The top-level folder of a file; a file at the root of `src/` counts as its own folder. */
function moduleOf(path: string): string {
  return path.split('/', 1)[0] ?? '';
}

const isLocal = ({ specifier }: Import) => specifier.startsWith('.');

/** The file that a local import names, relative to the folder that `path` is relative to. */
function target(path: string, { specifier }: Import): string {
  return join(dirname(path), specifier);
}

function vendorOf(specifier: string): string {
  const parts = specifier.split('/');
  return parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
}

t.test('importsOf finds every kind of import', async t => {
  const text = `import a from 'a';
import { b, type B } from 'b';
import type { C } from 'c';
import {
  type D,
  type E,
} from 'd';
import * as e from 'e';
import 'f';
export { g } from 'g';
export type { H } from 'h';
const i = () => import('i');
`;
  t.same(
    importsOf(text).map(({ specifier, typeOnly }) => `${specifier}${typeOnly ? ' (types)' : ''}`),
    ['a', 'b', 'c (types)', 'd (types)', 'e', 'g', 'h (types)', 'f', 'i'],
  );
  t.ok(files.length > 30, 'the source files were found');
  t.same([...new Set(files.map(({ path }) => moduleOf(path)))].sort(), Object.keys(MAY_IMPORT).sort());
});

t.test('each folder imports exactly the folders that the table allows', async t => {
  const used: Record<string, Set<string>> = {};
  for (const { path, imports } of files) {
    const importer = moduleOf(path);
    for (const statement of imports.filter(isLocal)) {
      const imported = moduleOf(target(path, statement));
      if (imported === '..' || target(path, statement) === CONSTANTS) continue;
      if (imported === importer && importer !== path) continue;
      used[importer] = (used[importer] ?? new Set()).add(imported);
      t.ok(MAY_IMPORT[importer]?.includes(imported), `${path} imports ${target(path, statement)}`);
      if (importer === 'observability' && TYPES_ONLY_FOR_OBSERVABILITY.includes(imported)) {
        const isAllowed = statement.typeOnly || (path === IMPORTS_CAUSES && imported === 'decision');
        t.ok(isAllowed, `${path} imports only types from ${target(path, statement)}`);
      }
    }
  }
  for (const [importer, allowed] of Object.entries(MAY_IMPORT)) {
    t.same([...(used[importer] ?? [])].sort(), [...allowed].sort(), `${importer} uses every import that it is allowed`);
  }
});

t.test('every local import names an existing .ts file', async t => {
  const paths = new Set(files.map(({ path }) => path));
  for (const { path, imports } of files) {
    for (const statement of imports.filter(isLocal)) {
      t.ok(paths.has(target(path, statement)), `${path}: ${statement.specifier}`);
    }
  }
});

t.test('no file of src, bench, scripts and test is part of an import cycle', async t => {
  const edges = new Map(
    globSync('{src,bench,scripts,test}/**/*.ts', { cwd: ROOT }).map(path => {
      const imports = importsOf(readFileSync(join(ROOT, path), 'utf8'));
      return [path, imports.filter(isLocal).map(statement => target(path, statement))];
    }),
  );
  const done = new Set<string>();
  const walk = (path: string, importers: readonly string[]): void => {
    if (importers.includes(path)) t.fail([...importers.slice(importers.indexOf(path)), path].join(' → '));
    if (done.has(path) || importers.includes(path)) return;
    for (const next of edges.get(path) ?? []) walk(next, [...importers, path]);
    done.add(path);
  };
  for (const path of edges.keys()) walk(path, []);
  t.ok([...edges.keys()].every(path => done.has(path)));
  t.ok(edges.has('bench/bench.ts'), 'the benchmarks are included');
});

t.test('each package is imported only by its adapter', async t => {
  const used: Record<string, { values: string[]; types: string[] }> = {};
  for (const { path, imports } of files) {
    for (const { specifier, typeOnly } of imports) {
      if (specifier.startsWith('.') || specifier.startsWith('node:')) continue;
      const vendor = vendorOf(specifier);
      used[vendor] ??= { values: [], types: [] };
      const list = used[vendor][typeOnly ? 'types' : 'values'];
      if (!list.includes(path)) list.push(path);
    }
  }
  for (const [vendor, { values, types }] of Object.entries(used)) {
    const importers = PACKAGE_IMPORTERS[vendor];
    t.same(values, importers?.values, `${vendor} is imported by the files of the table`);
    const onlyTypes = types.filter(path => !values.includes(path));
    t.same(onlyTypes, importers?.types ?? [], `types of ${vendor} are imported by the files of the table`);
  }
  t.same(
    Object.keys(PACKAGE_IMPORTERS).sort(),
    Object.keys(used).sort(),
    'the table lists exactly the packages in use',
  );
  // Packages are bundled: installing gatecar installs nothing else.
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  t.equal(dependencies, undefined);
  for (const vendor of Object.keys(PACKAGE_IMPORTERS)) t.ok(Object.hasOwn(devDependencies, vendor), vendor);
});

t.test('only main.ts reads the environment and exits the process', async t => {
  for (const { path, text, imports } of files.filter(file => file.path !== 'main.ts')) {
    // An exec plugin inherits the environment; gatecar does not read it there.
    const allowed = path === 'kube/exec-plugin.ts' ? text.replace('...process.env,', '') : text;
    t.notMatch(allowed, /\bprocess\.(env|argv|exit|exitCode|abort|kill|on|once)\b/, path);
    t.notOk(
      imports.some(({ specifier }) => specifier === 'node:process'),
      path,
    );
  }
});

t.test('only the listed files read a token’s characters', async t => {
  const readers = files
    .filter(({ text }) => /(?<!@link )\b(revealToken|Token\.reveal)\b/.test(text))
    .map(({ path }) => path);
  t.same(readers, Object.keys(REVEALS_TOKENS).sort());
});

t.test('files have kebab-case names, and none is a collection of helpers', async t => {
  for (const path of globSync('{src,test,bench,scripts}/**/*.ts', { cwd: ROOT })) {
    for (const part of path.split('/')) t.match(part, /^[a-z0-9]+(-[a-z0-9]+)*(\.test)?(\.ts)?$/, path);
    t.notMatch(basename(path), /^(index|utils?|helpers?|common|misc|shared)\b/, path);
    t.notMatch(dirname(path), /\b(utils?|helpers?|common|misc|shared)\b/, path);
  }
});

t.test('source files have no default export and no re-export', async t => {
  for (const { path, text } of files) {
    t.notMatch(text, /^export default\b|\bas default\b/m, path);
    t.notMatch(text, /^export\b[^;]*\bfrom '\./m, path);
  }
});

t.test('every exported function has a doc comment', async t => {
  for (const { path, text } of files) {
    for (const { 0: line, index } of text.matchAll(/^export (?:async )?function.*|^export const \w+.*=>.*/gm)) {
      t.match(text.slice(0, index), /\/\*\*(?:(?!\*\/).)+\*\/\n$/s, `${path}: ${line}`);
    }
  }
});

t.test('no private interface of Node, V8 or a package is used', async t => {
  for (const { path, text } of files) t.notMatch(text, PRIVATE_INTERFACES, path);
  for (const path of globSync('scripts/**/*.ts', { cwd: ROOT })) {
    t.notMatch(readFileSync(join(ROOT, path), 'utf8'), PRIVATE_INTERFACES, path);
  }
});

t.test('no source folder has more than 12 files', async t => {
  const folders = new Map<string, number>();
  for (const { path } of files) folders.set(dirname(path), (folders.get(dirname(path)) ?? 0) + 1);
  for (const [folder, count] of folders)
    t.ok(count <= MAX_FILES_PER_FOLDER, `${folder} has ${count} files of ${MAX_FILES_PER_FOLDER}`);
});

t.test('no source file is longer than its limit', async t => {
  for (const { path, text } of files) {
    const lines = text.split('\n').length - 1;
    const limit = LONGER[path]?.lines ?? MAX_LINES;
    t.ok(lines <= limit, `${path} has ${lines} lines of ${limit}`);
  }
  for (const path of Object.keys(LONGER)) {
    const lines = files.find(file => file.path === path)?.text.split('\n').length ?? 0;
    t.ok(lines > MAX_LINES, `${path} still needs its exception`);
  }
});

/** A function in a file, from its signature to its closing brace. */
interface SourceFunction {
  readonly name: string;
  readonly lines: number;
}

const KEYWORD = /^(if|for|while|switch|catch|try|do|else|class|interface)\b/;
const METHOD = /^(?:(?:async|static|override|get|set) )*\*?#?(\w+)(?:<[^(]*>)?\(/;

/**
 * Finds the functions by their indentation, which Biome's format makes reliable. The closing brace
 * is indented as the line on which the signature starts.
 */
function functionsOf(text: string): SourceFunction[] {
  const lines = text.split('\n');
  const indentOf = (line: string): number => line.search(/\S|$/);
  return lines.flatMap((line, opening) => {
    if (!/(\{|=> [([]+)$/.test(line)) return [];
    const indent = indentOf(line);
    const isOuter = (candidate: string): boolean => candidate !== '' && indentOf(candidate) === indent;
    const first = lines.findLastIndex(
      (candidate, index) => index <= opening && isOuter(candidate) && !/^\s*[)}\]]/.test(candidate),
    );
    const head = lines
      .slice(first, opening + 1)
      .join('\n')
      .trim();
    const hasBody = /[^(]\{$/.test(head) && (METHOD.test(head) || /\bfunction\b/.test(head));
    if (KEYWORD.test(head) || !(hasBody || /=> [({[]+$/.test(head))) return [];
    const last = lines.findIndex(
      (candidate, index) => index > opening && isOuter(candidate) && /^\s*[)}\]]/.test(candidate),
    );
    const name = /\bfunction\*? (\w+)|\bconst (\w+)/.exec(head) ?? METHOD.exec(head) ?? [head.split('\n', 1)[0]];
    return [{ name: name.slice(1).find(Boolean) ?? name[0] ?? '', lines: last - first + 1 }];
  });
}

t.test('functionsOf finds every kind of function', async t => {
  const text = `export async function a({
  b,
}: B): Promise<void> {
  if (b) {
    c();
  }
}
const d = (e: E): E => {
  return e;
};
const f = () => ({
  g() {
    h();
  },
  get i() {
    return 1;
  },
  j: async () => {
    k();
  },
});
class L {
  #m<T>(n: T): void {
    for (const o of n) {
      p(o);
    }
  }
  readonly #q = (): void => {
    r({
      s: 1,
    });
  };
}
`;
  t.strictSame(
    functionsOf(text).map(({ name, lines }) => `${name} ${lines}`),
    ['a 7', 'd 3', 'f 11', 'g 3', 'i 3', 'j: async () => { 3', 'm 5', 'readonly #q = (): void => { 5'],
  );
});

t.test('no source function is longer than 60 lines', async t => {
  const long = new Set<string>();
  for (const { path, text } of files) {
    for (const { name, lines } of functionsOf(text)) {
      if (lines <= MAX_FUNCTION_LINES) continue;
      const title = `${path}: ${name}`;
      long.add(title);
      t.ok(Object.hasOwn(LONGER_FUNCTIONS, title), `${title} has ${lines} lines of ${MAX_FUNCTION_LINES}`);
    }
  }
  for (const title of Object.keys(LONGER_FUNCTIONS)) t.ok(long.has(title), `${title} still needs its exception`);
  t.ok(files.flatMap(({ text }) => functionsOf(text)).length > 500, 'the functions were found');
});

t.test('each unit test mirrors an existing source file', async t => {
  const paths = new Set(files.map(({ path }) => `src/${path}`));
  for (const test of globSync('test/**/*.test.ts', { cwd: ROOT })) {
    const mirrored = coverageMap(test);
    for (const path of [mirrored ?? []].flat()) t.ok(paths.has(path), test);
  }
});
