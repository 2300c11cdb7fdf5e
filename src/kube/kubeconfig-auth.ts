import type { Cluster, KubeConfig } from '@kubernetes/client-node';
import type { WatchedFile } from '../files/watched-file.ts';
import { errorCode } from '../system/error-code.ts';
import {
  EndpointError,
  isUsableCaBundle,
  type KubeEndpoint,
  type KubeTls,
  readBearer,
  readCredentialFile,
} from './endpoint.ts';
import type { ExecPlugin, ExecStatus } from './exec-plugin.ts';

/** A kubeconfig, and the cluster and plugin that its context refers to. */
export interface ResolvedContext {
  readonly config: KubeConfig;
  readonly cluster: Cluster;
  /** The user's exec plugin, which is removed from `config`. */
  readonly plugin: { readonly command: string; readonly run: ExecPlugin } | undefined;
}

/** The request options that client-node sets. Its own types follow `node-fetch` and `ws`. */
interface ResolvedContextOptions {
  headers: Record<string, string>;
  auth?: string;
  ca?: Buffer;
  cert?: Buffer | string;
  key?: Buffer | string;
  servername?: string;
  rejectUnauthorized?: boolean;
}

/** Files in addition to the kubeconfig that are watched for changes. */
export interface CredentialFiles {
  /** The kubeconfig's own `tokenFile`. */
  readonly usersToken: WatchedFile | undefined;
  readonly extraToken: WatchedFile | undefined;
  readonly extraCa: WatchedFile | undefined;
}

/**
 * Builds the endpoint of a kubeconfig's context.
 *
 * @param held gatecar's bearer credential, if it is still valid.
 */
export async function toEndpoint(
  { config, cluster, plugin }: ResolvedContext,
  files: CredentialFiles,
  held: string | undefined,
): Promise<KubeEndpoint> {
  const applied: ResolvedContextOptions = { headers: {} };
  if (!URL.canParse(cluster.server) || !/^https?:\/\//i.test(cluster.server)) {
    throw new EndpointError('kubeconfig: the server of the cluster is no http or https URL');
  }
  // As in kubectl, a kubeconfig's credentials are sent only over TLS. client-node would reject a
  // plain HTTP server altogether.
  const isPlain = /^http:/i.test(cluster.server);
  try {
    if (!isPlain) {
      await config.applyToHTTPSOptions(applied);
      applyPlugin(applied, await plugin?.run());
    }
  } catch (error) {
    // The error may contain the plugin's output, which may be a credential: only its code is
    // reported.
    const what = plugin ? `the exec plugin ${plugin.command}` : 'the credential';
    throw new EndpointError(`kubeconfig: ${what} failed: ${errorCode(error)}`);
  }
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(applied.headers)) headers[name.toLowerCase()] = String(value).trim();
  if (applied.auth) headers['authorization'] = `Basic ${Buffer.from(applied.auth).toString('base64')}`;
  if (Object.values(headers).some(value => !/^[\x20-\x7e]*$/.test(value))) {
    throw new EndpointError('kubeconfig: the credential has characters that no header can carry');
  }
  const tokenFile = files.extraToken ?? (isPlain ? undefined : files.usersToken);
  if (tokenFile) headers['authorization'] = await readBearer(tokenFile, 'token file', held);
  if (files.extraCa) applied.ca = await readCredentialFile(files.extraCa, 'CA file');
  return {
    baseUrl: cluster.server.replace(/\/+$/, ''),
    headers,
    tls: toTls(applied),
    proxyUrl: cluster.proxyUrl || undefined,
  };
}

/**
 * Applies the plugin's credential. A static token of the user takes precedence, as in client-node.
 */
function applyPlugin(applied: ResolvedContextOptions, credential: ExecStatus | undefined): void {
  if (credential?.clientCertificateData) applied.cert = credential.clientCertificateData;
  if (credential?.clientKeyData) applied.key = credential.clientKeyData;
  if (credential?.token) applied.headers['Authorization'] ??= `Bearer ${credential.token}`;
}

function toTls({ ca, cert, key, servername, rejectUnauthorized }: ResolvedContextOptions): KubeTls {
  return {
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(servername && { servername }),
    ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
  };
}

/**
 * Returns the previous object if nothing has changed. If the new CA bundle is not usable, the
 * previous one stays.
 */
export function reuseTlsIfUnchanged(before: KubeTls | undefined, fresh: KubeTls): KubeTls {
  const isWorse = fresh.ca !== undefined && !isUsableCaBundle(fresh.ca, before?.ca);
  const tls = isWorse && before?.ca !== undefined ? { ...fresh, ca: before.ca } : fresh;
  return before !== undefined && sameTls(before, tls) ? before : tls;
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
