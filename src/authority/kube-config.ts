import type { KubeConfig } from '@kubernetes/client-node';
import {
  bearer,
  EndpointError,
  type EndpointSource,
  errorCode,
  explicitEndpoint,
  type KubeEndpoint,
  type KubeTls,
  readPart,
} from './kube-endpoint.ts';
import { type WatchedFile, watchedFile } from './watched-file.ts';

// The one door to @kubernetes/client-node. It is opened when first needed: importing it takes a quarter of a second and
// tens of megabytes, which an explicit address can do without.
const clientNode = () => import('@kubernetes/client-node');

/** How long what a kubeconfig said, exec plugins included, is taken as current, in milliseconds. */
const REFRESH_EVERY_MS = 10_000;

/** The endpoint of a pod: address from the environment, credentials from files that the kubelet keeps fresh. */
export async function inClusterEndpoint(tokenFile: string, caFile: string): Promise<EndpointSource> {
  const { KubeConfig } = await clientNode();
  const config = new KubeConfig();
  config.loadFromCluster();
  const url = config.getCurrentCluster()?.server;
  if (url === undefined) throw new EndpointError('the environment names no API server');
  return explicitEndpoint({ url, tokenFile, caFile });
}

export interface KubeConfigOptions {
  /** Merged in this order, the first that says something wins, as in `KUBECONFIG`. */
  readonly files: readonly string[];
  /** Instead of the files' `current-context`. */
  readonly context: string | undefined;
  /** Replace the user's token and the cluster's CA bundle. */
  readonly tokenFile: string | undefined;
  readonly caFile: string | undefined;
  readonly now?: () => number;
}

/** The endpoint of a kubeconfig's context: tokens, token files, client certificates, basic auth and exec plugins. */
export function kubeConfigEndpoint(options: KubeConfigOptions): EndpointSource {
  const { files, context, now = () => performance.now() } = options;
  const watched = files.map(file => watchedFile(file, now));
  const extraToken = options.tokenFile === undefined ? undefined : watchedFile(options.tokenFile, now);
  const extraCa = options.caFile === undefined ? undefined : watchedFile(options.caFile, now);
  let loaded: Loaded | undefined;
  let endpoint: KubeEndpoint | undefined;
  let resolvedAt = Number.NEGATIVE_INFINITY;
  let resolving: Promise<KubeEndpoint> | undefined;

  const resolve = async (): Promise<KubeEndpoint> => {
    const contents = await Promise.all(watched.map((file, at) => readPart(file, `kubeconfig ${files[at]}`)));
    if (loaded === undefined || contents.some((content, at) => content !== loaded?.contents[at])) {
      loaded = { contents, ...(await load(contents, files, context)) };
    }
    const fresh = await toEndpoint(loaded.config, extraToken ?? loaded.tokenFile, extraCa);
    endpoint = endpoint !== undefined && sameTls(endpoint.tls, fresh.tls) ? { ...fresh, tls: endpoint.tls } : fresh;
    resolvedAt = now();
    return endpoint;
  };

  return {
    async current() {
      if (endpoint !== undefined && now() - resolvedAt < REFRESH_EVERY_MS) return endpoint;
      // One run of an exec plugin serves all who wait for it.
      resolving ??= resolve().finally(() => {
        resolving = undefined;
      });
      return resolving;
    },
    drop() {
      // The library keeps a plugin's credential until it says it has run out; only a new KubeConfig asks again.
      loaded = undefined;
      resolvedAt = Number.NEGATIVE_INFINITY;
      for (const file of [...watched, extraToken, extraCa]) file?.drop();
    },
  };
}

interface Loaded {
  readonly contents: readonly Buffer[];
  readonly config: KubeConfig;
  readonly tokenFile: WatchedFile | undefined;
}

async function load(
  contents: readonly Buffer[],
  files: readonly string[],
  context: string | undefined,
): Promise<Omit<Loaded, 'contents'>> {
  const { KubeConfig, loadYaml } = await clientNode();
  const { dirname, resolve } = await import('node:path');
  const merged = new KubeConfig();
  const tokenFiles = new Map<string, string>();
  for (const [at, content] of contents.entries()) {
    const file = files[at] ?? '';
    try {
      const one = new KubeConfig();
      one.loadFromString(content.toString('utf8'));
      one.makePathsAbsolute(dirname(file));
      for (const [user, path] of userTokenFiles(loadYaml(content.toString('utf8')))) {
        if (!tokenFiles.has(user)) tokenFiles.set(user, resolve(dirname(file), path));
      }
      mergeMissing(merged, one);
    } catch {
      // The parser's error may quote the file, which holds credentials.
      throw new EndpointError(`kubeconfig ${file} is not a valid kubeconfig`);
    }
  }
  if (context !== undefined) merged.setCurrentContext(context);
  requireContext(merged);
  const tokenFile = tokenFiles.get(merged.getCurrentUser()?.name ?? '');
  return { config: merged, tokenFile: tokenFile === undefined ? undefined : watchedFile(tokenFile) };
}

/** kubectl's merge rules: the first file to name a cluster, user, context or current context wins. */
function mergeMissing(into: KubeConfig, from: KubeConfig): void {
  const missing = <T extends { name: string }>(have: readonly T[], more: readonly T[]) => [
    ...have,
    ...more.filter(({ name }) => !have.some(one => one.name === name)),
  ];
  into.loadFromOptions({
    clusters: missing(into.clusters, from.clusters),
    users: missing(into.users, from.users),
    contexts: missing(into.contexts, from.contexts),
    currentContext: into.currentContext || from.currentContext,
  });
}

/** The library reads `token-file`, but kubectl writes `tokenFile`. */
function userTokenFiles(document: unknown): [user: string, path: string][] {
  const users = (document as { users?: { name?: unknown; user?: { tokenFile?: unknown } }[] } | null)?.users ?? [];
  return users.flatMap(({ name, user }): [string, string][] =>
    typeof name === 'string' && typeof user?.tokenFile === 'string' ? [[name, user.tokenFile]] : [],
  );
}

function requireContext(config: KubeConfig): void {
  const name = config.getCurrentContext();
  if (!name) throw new EndpointError('kubeconfig: no current-context; set GATECAR_KUBE_CONTEXT');
  if (!config.getContextObject(name)) throw new EndpointError(`kubeconfig: there is no context "${name}"`);
  if (!config.getCurrentCluster()) throw new EndpointError(`kubeconfig: context "${name}" names no known cluster`);
}

/** What the library writes into request options; its own types follow `node-fetch` and `ws`. */
interface AppliedOptions {
  headers: Record<string, string>;
  auth?: string;
  ca?: Buffer;
  cert?: Buffer | string;
  key?: Buffer | string;
  servername?: string;
  rejectUnauthorized?: boolean;
}

async function toEndpoint(
  config: KubeConfig,
  tokenFile: WatchedFile | undefined,
  caFile: WatchedFile | undefined,
): Promise<KubeEndpoint> {
  const applied: AppliedOptions = { headers: {} };
  try {
    await config.applyToHTTPSOptions(applied);
  } catch (error) {
    // What a plugin wrote may be a credential; its exit is all that is told.
    const { command } = (config.getCurrentUser()?.exec ?? {}) as { command?: string };
    const what = command === undefined ? 'the credential' : `the exec plugin ${command}`;
    throw new EndpointError(`kubeconfig: ${what} failed: ${errorCode(error)}`);
  }
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(applied.headers)) headers[name.toLowerCase()] = String(value).trim();
  if (applied.auth) headers['authorization'] = `Basic ${Buffer.from(applied.auth).toString('base64')}`;
  if (tokenFile) headers['authorization'] = bearer(await readPart(tokenFile, 'token file'), 'token file');
  if (caFile) applied.ca = await readPart(caFile, 'CA file');
  const cluster = config.getCurrentCluster();
  return {
    baseUrl: (cluster?.server ?? '').replace(/\/+$/, ''),
    headers,
    tls: toTls(applied),
    proxyUrl: cluster?.proxyUrl,
  };
}

function toTls({ ca, cert, key, servername, rejectUnauthorized }: AppliedOptions): KubeTls {
  return {
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(servername && { servername }),
    ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
  };
}

function sameTls(one: KubeTls, other: KubeTls): boolean {
  const same = (a: Buffer | string | undefined, b: Buffer | string | undefined) => String(a ?? '') === String(b ?? '');
  return (
    same(one.ca, other.ca) &&
    same(one.cert, other.cert) &&
    same(one.key, other.key) &&
    one.servername === other.servername &&
    one.rejectUnauthorized === other.rejectUnauthorized
  );
}
