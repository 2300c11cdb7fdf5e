import type { Cluster, KubeConfig, User } from '@kubernetes/client-node';
import { type WatchedFile, watchedFile } from '../files/watched-file.ts';
import { EndpointError, type EndpointSource, type KubeEndpoint, readCredentialFile } from './endpoint.ts';
import { execConfigOf, execPlugin, withoutExec } from './exec-plugin.ts';
import { type ResolvedContext, reuseTlsIfUnchanged, toEndpoint } from './kubeconfig-auth.ts';

// The one door to @kubernetes/client-node. It is opened when first needed: importing it takes a quarter of a second and
// tens of megabytes, which a pod that asks with its own account can do without.
const clientNode = () => import('@kubernetes/client-node');

/** How long what a kubeconfig said, exec plugins included, is taken as current, in milliseconds. */
const REFRESH_EVERY_MS = 10_000;

/** How long a kubeconfig that cannot be used is left alone, while what it said before is not refused, in milliseconds. */
const TRY_AGAIN_MS = 1000;

/** How long an exec plugin may take before it is ended, in milliseconds. */
const GIVE_UP_AFTER_MS = 60_000;

export interface KubeConfigOptions {
  /** Merged in this order, the first that says something wins, as in `KUBECONFIG`. */
  readonly files: readonly string[];
  /** Instead of the files' `current-context`. */
  readonly context: string | undefined;
  /** Replace the user's token and the cluster's CA bundle. */
  readonly tokenFile: string | undefined;
  readonly caFile: string | undefined;
  readonly now?: () => number;
  readonly giveUpAfterMs?: number;
}

/** The endpoint of a kubeconfig's context: tokens, token files, client certificates, basic auth and exec plugins. */
export function kubeConfigEndpoint(options: KubeConfigOptions): EndpointSource {
  const { files, context, now = () => performance.now(), giveUpAfterMs = GIVE_UP_AFTER_MS } = options;
  const watched = files.map(path => ({ path, file: watchedFile(path, now) }));
  const extraToken = options.tokenFile === undefined ? undefined : watchedFile(options.tokenFile, now);
  const extraCa = options.caFile === undefined ? undefined : watchedFile(options.caFile, now);
  let loaded: (Loaded & { readonly tokenFile: WatchedFile | undefined }) | undefined;
  let endpoint: KubeEndpoint | undefined;
  let isRefused = false;
  let resolvedAt = Number.NEGATIVE_INFINITY;
  let resolving: Promise<KubeEndpoint> | undefined;
  let resolvingSince = 0;

  const read = async (): Promise<Part[]> =>
    Promise.all(
      watched.map(async ({ path, file }) => ({ path, content: await readCredentialFile(file, `kubeconfig ${path}`) })),
    );

  const resolve = async (): Promise<KubeEndpoint> => {
    const parts = await read();
    if (loaded === undefined || parts.some(({ content }, at) => content !== loaded?.parts[at]?.content)) {
      const fresh = await load(parts, context, giveUpAfterMs);
      const path = fresh.tokenFilePath;
      loaded = { ...fresh, tokenFile: path === undefined ? undefined : watchedFile(path, now) };
    }
    const held = isRefused ? undefined : endpoint?.headers['authorization'];
    const fresh = await toEndpoint(loaded, { usersToken: loaded.tokenFile, extraToken, extraCa }, held);
    endpoint = { ...fresh, tls: reuseTlsIfUnchanged(endpoint?.tls, fresh.tls) };
    isRefused = false;
    resolvedAt = now();
    return endpoint;
  };

  /** A file that is half-written, or a plugin that fails, is no reason to stop with a credential that still does. */
  const resolveOrKeep = (): Promise<KubeEndpoint> =>
    resolve().catch(error => {
      if (endpoint === undefined || isRefused) throw error;
      resolvedAt = now() - REFRESH_EVERY_MS + TRY_AGAIN_MS;
      return endpoint;
    });

  const recheck = (): void => {
    resolvedAt = Number.NEGATIVE_INFINITY;
    for (const file of [...watched.map(one => one.file), extraToken, extraCa]) file?.drop();
  };

  return {
    async current() {
      if (endpoint !== undefined && now() - resolvedAt < REFRESH_EVERY_MS) return endpoint;
      // One run of an exec plugin serves all who wait for it, but for one that hangs.
      if (resolving === undefined || now() - resolvingSince >= giveUpAfterMs) {
        resolvingSince = now();
        const run = resolveOrKeep().finally(() => {
          if (resolving === run) resolving = undefined;
        });
        resolving = run;
      }
      return resolving;
    },
    drop() {
      // A plugin's credential is kept until it expires; only a kubeconfig that is loaded again runs the plugin again.
      loaded = undefined;
      isRefused = true;
      recheck();
    },
    recheck,
  };
}

/** A kubeconfig's path and bytes. */
interface Part {
  readonly path: string;
  readonly content: Buffer;
}

interface Loaded extends ResolvedContext {
  readonly parts: readonly Part[];
  readonly tokenFilePath: string | undefined;
}

/** Stands in where a context has no user: without one, the library would leave out the cluster's CA bundle as well. */
const NOBODY: User = { name: '' };

async function load(parts: readonly Part[], context: string | undefined, pluginTimeoutMs: number): Promise<Loaded> {
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
  const exec = execConfigOf(user);
  const plugin = exec && { command: exec.command, run: execPlugin(exec, { timeoutMs: pluginTimeoutMs }) };
  config.users = [withoutExec(user)];
  return { parts, config, cluster, plugin, tokenFilePath: tokenFiles.get(user.name) };
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
