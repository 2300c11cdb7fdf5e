import type { Cluster, KubeConfig } from '@kubernetes/client-node';
import type { WatchedFile } from '../files/watched-file.ts';
import {
  EndpointError,
  errorCode,
  isUsableCaBundle,
  type KubeEndpoint,
  type KubeTls,
  readBearer,
  readCredentialFile,
} from './endpoint.ts';
import type { ExecPlugin, ExecStatus } from './exec-plugin.ts';

/** A kubeconfig, and what its context names. */
export interface ResolvedContext {
  readonly config: KubeConfig;
  readonly cluster: Cluster;
  /** The exec plugin of the user, which `config` does not have. */
  readonly plugin: { readonly command: string; readonly run: ExecPlugin } | undefined;
}

/** What the library writes into request options; its own types follow `node-fetch` and `ws`. */
interface ResolvedContextOptions {
  headers: Record<string, string>;
  auth?: string;
  ca?: Buffer;
  cert?: Buffer | string;
  key?: Buffer | string;
  servername?: string;
  rejectUnauthorized?: boolean;
}

/** Files beside the kubeconfig that are followed. */
export interface CredentialFiles {
  /** The kubeconfig's own `tokenFile`. */
  readonly usersToken: WatchedFile | undefined;
  readonly extraToken: WatchedFile | undefined;
  readonly extraCa: WatchedFile | undefined;
}

/** What a kubeconfig's context shows and trusts. @param held our bearer credential that is still good. */
export async function toEndpoint(
  { config, cluster, plugin }: ResolvedContext,
  files: CredentialFiles,
  held: string | undefined,
): Promise<KubeEndpoint> {
  const applied: ResolvedContextOptions = { headers: {} };
  if (!URL.canParse(cluster.server) || !/^https?:\/\//i.test(cluster.server)) {
    throw new EndpointError('kubeconfig: the server of the cluster is no http or https URL');
  }
  // As kubectl has it, a kubeconfig's credentials are shown over TLS only; the library would refuse plain http as such.
  const isPlain = /^http:/i.test(cluster.server);
  try {
    if (!isPlain) {
      await config.applyToHTTPSOptions(applied);
      applyPlugin(applied, await plugin?.run());
    }
  } catch (error) {
    // The error may hold the plugin's output, which may be a credential: only its code is reported.
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
    proxyUrl: cluster.proxyUrl,
  };
}

/** A static token of the user takes precedence, as in client-node. */
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

/** The same object for as long as nothing in it has changed, and the CA bundle that was whole while the new one is not. */
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
