import type { Cluster, KubeConfig, User } from '@kubernetes/client-node';
import { type WatchedFile, watchedFile } from '../files/watched-file.ts';
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

// The one door to @kubernetes/client-node. It is opened when first needed: importing it takes a quarter of a second and
// tens of megabytes, which an explicit address can do without.
const clientNode = () => import('@kubernetes/client-node');

/** How long what a kubeconfig said, exec plugins included, is taken as current, in milliseconds. */
const REFRESH_EVERY_MS = 10_000;

/** How long an exec plugin may take before it is left to itself and run anew, in milliseconds. */
const GIVE_UP_AFTER_MS = 60_000;

/** The endpoint of a pod: address from the environment, credentials from files that the kubelet keeps fresh. */
export async function inClusterEndpoint(tokenFile: string, caFile: string): Promise<EndpointSource> {
  const { KubeConfig } = await clientNode();
  const config = new KubeConfig();
  config.loadFromCluster();
  const url = String(config.getCurrentCluster()?.server);
  // The library writes out what is missing as `undefined`.
  if (!URL.canParse(url)) throw new EndpointError('the environment names no API server');
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
  const watched = files.map(path => ({ path, file: watchedFile(path, now) }));
  const extraToken = options.tokenFile === undefined ? undefined : watchedFile(options.tokenFile, now);
  const extraCa = options.caFile === undefined ? undefined : watchedFile(options.caFile, now);
  let loaded: (Loaded & { readonly tokenFile: WatchedFile | undefined }) | undefined;
  let endpoint: KubeEndpoint | undefined;
  let resolvedAt = Number.NEGATIVE_INFINITY;
  let resolving: Promise<KubeEndpoint> | undefined;
  let resolvingSince = 0;

  const read = async (): Promise<Part[]> =>
    Promise.all(watched.map(async ({ path, file }) => ({ path, content: await readPart(file, `kubeconfig ${path}`) })));

  const resolve = async (): Promise<KubeEndpoint> => {
    const parts = await read();
    if (loaded === undefined || parts.some(({ content }, at) => content !== loaded?.parts[at]?.content)) {
      const fresh = await load(parts, context);
      const path = fresh.tokenFilePath;
      loaded = { ...fresh, tokenFile: path === undefined ? undefined : watchedFile(path, now) };
    }
    const fresh = await toEndpoint(loaded, { usersToken: loaded.tokenFile, extraToken, extraCa });
    endpoint = endpoint !== undefined && sameTls(endpoint.tls, fresh.tls) ? { ...fresh, tls: endpoint.tls } : fresh;
    resolvedAt = now();
    return endpoint;
  };

  return {
    async current() {
      if (endpoint !== undefined && now() - resolvedAt < REFRESH_EVERY_MS) return endpoint;
      // One run of an exec plugin serves all who wait for it, but for one that hangs.
      if (resolving === undefined || now() - resolvingSince >= GIVE_UP_AFTER_MS) {
        resolvingSince = now();
        const run = resolve().finally(() => {
          if (resolving === run) resolving = undefined;
        });
        resolving = run;
      }
      return resolving;
    },
    drop() {
      // The library keeps a plugin's credential until it says it has run out; only a new KubeConfig asks again.
      loaded = undefined;
      resolvedAt = Number.NEGATIVE_INFINITY;
      for (const file of [...watched.map(one => one.file), extraToken, extraCa]) file?.drop();
    },
  };
}

/** A kubeconfig's path and bytes. */
interface Part {
  readonly path: string;
  readonly content: Buffer;
}

interface Loaded {
  readonly parts: readonly Part[];
  readonly config: KubeConfig;
  readonly cluster: Cluster;
  readonly user: User;
  readonly tokenFilePath: string | undefined;
}

/** Stands in where a context has no user: without one, the library would leave out the cluster's CA bundle as well. */
const NOBODY: User = { name: '' };

async function load(parts: readonly Part[], context: string | undefined): Promise<Loaded> {
  const { KubeConfig, loadYaml } = await clientNode();
  const { dirname, resolve } = await import('node:path');
  const config = new KubeConfig();
  config.users = [NOBODY];
  const tokenFiles = new Map<string, string>();
  for (const { path, content } of parts) {
    try {
      const text = content.toString('utf8');
      const one = new KubeConfig();
      one.loadFromString(text);
      one.makePathsAbsolute(dirname(path));
      for (const [user, tokenFile] of userTokenFiles(loadYaml(text))) {
        if (!config.getUser(user)) tokenFiles.set(user, resolve(dirname(path), tokenFile));
      }
      mergeMissing(config, one);
    } catch {
      // The parser's error may quote the file, which holds credentials.
      throw new EndpointError(`kubeconfig ${path} is not a valid kubeconfig`);
    }
  }
  if (context !== undefined) config.setCurrentContext(context);
  const { cluster, user } = currentOf(config);
  return { parts, config, cluster, user, tokenFilePath: tokenFiles.get(user.name) };
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
    contexts: missing(
      into.contexts,
      from.contexts.map(one => ({ ...one, user: one.user ?? NOBODY.name })),
    ),
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

function currentOf(config: KubeConfig): { cluster: Cluster; user: User } {
  const name = config.getCurrentContext();
  if (!name) throw new EndpointError('kubeconfig: no current-context; set GATECAR_KUBE_CONTEXT');
  if (!config.getContextObject(name)) throw new EndpointError(`kubeconfig: there is no context "${name}"`);
  const cluster = config.getCurrentCluster();
  if (!cluster) throw new EndpointError(`kubeconfig: context "${name}" names no known cluster`);
  const user = config.getCurrentUser();
  if (!user) throw new EndpointError(`kubeconfig: context "${name}" names no known user`);
  return { cluster, user };
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

interface CredentialFiles {
  /** The kubeconfig's own `tokenFile`. */
  readonly usersToken: WatchedFile | undefined;
  readonly extraToken: WatchedFile | undefined;
  readonly extraCa: WatchedFile | undefined;
}

async function toEndpoint({ config, cluster, user }: Loaded, files: CredentialFiles): Promise<KubeEndpoint> {
  const applied: AppliedOptions = { headers: {} };
  if (!URL.canParse(cluster.server) || !/^https?:\/\//i.test(cluster.server)) {
    throw new EndpointError('kubeconfig: the server of the cluster is no http or https URL');
  }
  // As kubectl has it, a kubeconfig's credentials are shown over TLS only; the library would refuse plain http as such.
  const isPlain = /^http:/i.test(cluster.server);
  try {
    if (!isPlain) await config.applyToHTTPSOptions(applied);
  } catch (error) {
    // What a plugin wrote may be a credential; its exit is all that is told.
    const what = user.exec ? `the exec plugin ${user.exec.command}` : 'the credential';
    throw new EndpointError(`kubeconfig: ${what} failed: ${errorCode(error)}`);
  }
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(applied.headers)) headers[name.toLowerCase()] = String(value).trim();
  if (applied.auth) headers['authorization'] = `Basic ${Buffer.from(applied.auth).toString('base64')}`;
  if (Object.values(headers).some(value => !/^[\x20-\x7e]*$/.test(value))) {
    throw new EndpointError('kubeconfig: the credential has characters that no header can carry');
  }
  const tokenFile = files.extraToken ?? (isPlain ? undefined : files.usersToken);
  if (tokenFile) headers['authorization'] = bearer(await readPart(tokenFile, 'token file'), 'token file');
  if (files.extraCa) applied.ca = await readPart(files.extraCa, 'CA file');
  return {
    baseUrl: cluster.server.replace(/\/+$/, ''),
    headers,
    tls: toTls(applied),
    proxyUrl: cluster.proxyUrl,
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
