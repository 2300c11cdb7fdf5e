import type { Cluster, KubeConfig, User } from '@kubernetes/client-node';
import { type WatchedFile, watchedFile } from '../files/watched-file.ts';
import { EXEC_PLUGIN_TIMEOUT_MS, KUBECONFIG_REFRESH_EVERY_MS, KUBECONFIG_TRY_AGAIN_MS } from '../limits/constants.ts';
import { errorCode } from '../system/error-code.ts';
import { EndpointError, type EndpointSource, type KubeEndpoint } from './endpoint.ts';
import { execConfigOf, execPlugin, withoutExec } from './exec-plugin.ts';
import { type ResolvedContext, reuseTlsIfUnchanged, toEndpoint } from './kubeconfig-auth.ts';

// The only import of @kubernetes/client-node. It is loaded on first use: loading takes time and
// memory, and a pod that uses its own ServiceAccount does not need it.
const clientNode = () => import('@kubernetes/client-node');

export interface KubeConfigOptions {
  /** Merged in this order; the first file that sets a value wins, as in `KUBECONFIG`. */
  readonly files: readonly string[];
  /** Replaces the files' `current-context`. */
  readonly context: string | undefined;
  /** Replace the user's token and the cluster's CA bundle. */
  readonly tokenFile: string | undefined;
  readonly caFile: string | undefined;
  readonly now?: () => number;
  readonly giveUpAfterMs?: number;
}

/**
 * Creates the endpoint source of a kubeconfig's context. Supports tokens, token files, client
 * certificates, basic auth and exec plugins.
 */
export function kubeConfigEndpoint(options: KubeConfigOptions): EndpointSource {
  const { files, context, now = () => performance.now(), giveUpAfterMs = EXEC_PLUGIN_TIMEOUT_MS } = options;
  const watched = files.map(path => ({ path, file: watchedFile(path, now) }));
  const extraToken = options.tokenFile === undefined ? undefined : watchedFile(options.tokenFile, now);
  const extraCa = options.caFile === undefined ? undefined : watchedFile(options.caFile, now);
  let loaded: (Loaded & { readonly tokenFile: WatchedFile | undefined }) | undefined;
  let endpoint: KubeEndpoint | undefined;
  let isRefused = false;
  let resolvedAt = Number.NEGATIVE_INFINITY;

  const resolve = async (): Promise<KubeEndpoint> => {
    const parts = await readParts(watched);
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

  /**
   * Resolves the kubeconfig. If a file is half-written or a plugin fails, the previous endpoint is
   * kept, unless its credential was rejected.
   */
  const resolveOrKeep = (): Promise<KubeEndpoint> =>
    resolve().catch(error => {
      if (endpoint === undefined || isRefused) throw error;
      resolvedAt = now() - KUBECONFIG_REFRESH_EVERY_MS + KUBECONFIG_TRY_AGAIN_MS;
      return endpoint;
    });

  // All waiting callers share one run of an exec plugin, unless that run hangs.
  const resolveOnce = shareRun(resolveOrKeep, giveUpAfterMs, now);

  const recheckFiles = (): void => {
    resolvedAt = Number.NEGATIVE_INFINITY;
    for (const file of [...watched.map(one => one.file), extraToken, extraCa]) file?.drop();
  };

  return {
    async current() {
      if (endpoint !== undefined && now() - resolvedAt < KUBECONFIG_REFRESH_EVERY_MS) return endpoint;
      return resolveOnce();
    },
    invalidate() {
      // A plugin's credential is cached until it expires. Loading the kubeconfig again runs the
      // plugin again.
      loaded = undefined;
      isRefused = true;
      recheckFiles();
    },
    reloadTls: recheckFiles,
  };
}

interface WatchedPart {
  readonly path: string;
  readonly file: WatchedFile;
}

/** Reads the files. As in kubectl, a file of a list may be missing, but not all of them. */
async function readParts(watched: readonly WatchedPart[]): Promise<Part[]> {
  const parts = await Promise.all(watched.map(one => readPart(one, watched.length > 1)));
  if (parts.every(({ content }) => content === undefined)) {
    throw new EndpointError(`kubeconfig: none of the files exists: ${watched.map(({ path }) => path).join(', ')}`);
  }
  return parts;
}

async function readPart({ path, file }: WatchedPart, mayBeMissing: boolean): Promise<Part> {
  try {
    return { path, content: await file.read() };
  } catch (error) {
    if (mayBeMissing && errorCode(error) === 'ENOENT') return { path, content: undefined };
    throw new EndpointError(`kubeconfig ${path} cannot be read: ${errorCode(error)}`);
  }
}

/** Shares a call in progress with all callers, unless it has lasted `maxMs` milliseconds. */
function shareRun<T>(run: () => Promise<T>, maxMs: number, now: () => number): () => Promise<T> {
  let current: Promise<T> | undefined;
  let startedAt = 0;
  return () => {
    if (current === undefined || now() - startedAt >= maxMs) {
      startedAt = now();
      const fresh = run().finally(() => {
        if (current === fresh) current = undefined;
      });
      current = fresh;
    }
    return current;
  };
}

/** A kubeconfig's path and bytes; no bytes if the file does not exist. */
interface Part {
  readonly path: string;
  readonly content: Buffer | undefined;
}

interface Loaded extends ResolvedContext {
  readonly parts: readonly Part[];
  readonly tokenFilePath: string | undefined;
}

/**
 * The user of a context that has none. Without a user, client-node would also omit the cluster's CA
 * bundle.
 */
const ANONYMOUS: User = { name: '' };

async function load(parts: readonly Part[], context: string | undefined, pluginTimeoutMs: number): Promise<Loaded> {
  const { KubeConfig, loadYaml } = await clientNode();
  const { dirname, resolve } = await import('node:path');
  const config = new KubeConfig();
  config.users = [ANONYMOUS];
  const tokenFiles = new Map<string, string>();
  for (const { path, content } of parts) {
    if (content === undefined) continue;
    try {
      const text = firstDocument(content.toString('utf8'));
      if (!hasContent(text)) continue;
      const one = new KubeConfig();
      // An entry that is not used may be incomplete.
      one.loadFromString(text, { onInvalidEntry: 'filter' });
      one.makePathsAbsolute(dirname(path));
      for (const [user, tokenFile] of userTokenFiles(loadYaml(text))) {
        if (!config.getUser(user)) tokenFiles.set(user, resolve(dirname(path), tokenFile));
      }
      mergeMissing(config, one);
    } catch {
      // The parser's error may quote the file, which contains credentials.
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

/** Returns the first YAML document, as kubectl reads it. A line that starts with `---` ends it. */
function firstDocument(text: string): string {
  const [head = '', next = ''] = text.split(/^---(?=\s|$)/m);
  return hasContent(head) ? head : next;
}

/** Whether there are lines other than blank ones, comments and YAML directives. */
function hasContent(text: string): boolean {
  return text.split('\n').some(line => !/^\s*(#.*)?$|^%/.test(line));
}

/**
 * Merges by kubectl's rules: the first file to name a cluster, user, context or current context
 * wins.
 */
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
      from.contexts.map(one => ({ ...one, user: one.user ?? ANONYMOUS.name })),
    ),
    currentContext: into.currentContext || from.currentContext,
  });
}

/** Reads `tokenFile`, which kubectl writes. client-node reads only `token-file`. */
function userTokenFiles(document: unknown): [user: string, path: string][] {
  const users = (document as { users?: { name?: unknown; user?: { tokenFile?: unknown } }[] } | null)?.users ?? [];
  return users.flatMap(({ name, user }): [string, string][] =>
    typeof name === 'string' && typeof user?.tokenFile === 'string' && user.tokenFile !== ''
      ? [[name, user.tokenFile]]
      : [],
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
  rejectBoth(`cluster "${cluster.name}"`, 'certificate-authority', cluster.caFile, cluster.caData);
  rejectBoth(`user "${user.name}"`, 'client-certificate', user.certFile, user.certData);
  rejectBoth(`user "${user.name}"`, 'client-key', user.keyFile, user.keyData);
  return { cluster, user };
}

/** As in kubectl, a value must not be given both as a file and as data. */
function rejectBoth(entry: string, field: string, file: string | undefined, data: string | undefined): void {
  if (file && data) throw new EndpointError(`kubeconfig: ${entry} has both ${field} and ${field}-data`);
}
