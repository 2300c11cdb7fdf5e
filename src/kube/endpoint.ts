import { type WatchedFile, watchedFile } from '../files/watched-file.ts';
import { errorCode } from '../system/error-code.ts';
import { certificatesIn } from '../tls/pem.ts';

/** The API server's address, gatecar's credential for it, and the certificates to trust. */
export interface KubeEndpoint {
  /** Scheme, host, port and path prefix, without a trailing slash. */
  readonly baseUrl: string;
  /** Sent with each request. They hold gatecar's own credential and are never logged. */
  readonly headers: Readonly<Record<string, string>>;
  /** The same object while its content is unchanged. */
  readonly tls: KubeTls;
  /** An HTTP proxy between gatecar and the API server (kubeconfig `proxy-url`). */
  readonly proxyUrl: string | undefined;
}

export interface KubeTls {
  readonly ca?: Buffer | string;
  readonly cert?: Buffer | string;
  readonly key?: Buffer | string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

/**
 * Provides the current endpoint. Files are read again when they change. Plugins run again when
 * their credential has expired.
 */
export interface EndpointSource {
  /** Returns the current endpoint. @throws {EndpointError} if none can be determined. */
  current(): Promise<KubeEndpoint>;
  /**
   * Reports that the API server rejected the credential. The next {@link current} reads or creates
   * it again.
   */
  invalidate(): void;
  /**
   * Reports that gatecar did not trust the server's certificate, or the server gatecar's. The next
   * {@link current} checks the files, even if they are not due.
   */
  reloadTls(): void;
}

/**
 * States in gatecar's own words why there is no endpoint. It contains no file content and no plugin
 * output.
 */
export class EndpointError extends Error {
  override readonly name = 'EndpointError';
}

export interface ExplicitEndpointOptions {
  readonly url: string;
  /** Holds gatecar's bearer token; without this file, none is sent. */
  readonly tokenFile: string | undefined;
  /** PEM bundle to trust instead of the system's. */
  readonly caFile: string | undefined;
  readonly now?: () => number;
}

/**
 * Creates the source of an endpoint at a fixed address. The kubelet may replace the token and CA
 * files at any time.
 */
export function explicitEndpoint({ url, tokenFile, caFile, now }: ExplicitEndpointOptions): EndpointSource {
  const token = tokenFile === undefined ? undefined : watchedFile(tokenFile, now);
  const ca = caFile === undefined ? undefined : watchedFile(caFile, now);
  let tls: KubeTls = {};
  let credential: string | undefined;
  let endpoint: KubeEndpoint | undefined;
  let loaded: Promise<KubeEndpoint> | undefined;
  let running = 0;
  let isConcurrent = false;

  const load = async (): Promise<KubeEndpoint> => {
    const bundle = ca && (await readCredentialFile(ca, `CA file ${caFile}`));
    if (bundle !== undefined && bundle !== tls.ca && isUsableCaBundle(bundle, tls.ca)) tls = { ca: bundle };
    if (token) credential = await readBearer(token, `token file ${tokenFile}`, credential);
    if (endpoint === undefined || endpoint.tls !== tls || endpoint.headers['authorization'] !== credential) {
      const headers = credential === undefined ? {} : { authorization: credential };
      endpoint = { baseUrl: url, headers, tls, proxyUrl: undefined };
    }
    return endpoint;
  };

  return {
    // While no file is due for a check, its bytes are the same, so all reviews share one endpoint.
    current() {
      if (loaded !== undefined && !token?.isDue && !ca?.isDue) return loaded;
      const own = load();
      isConcurrent ||= running > 0;
      running += 1;
      const end = (): void => {
        running -= 1;
        // Concurrent loads may have seen different file contents. The result is then not reused:
        // the next call loads again.
        loaded = isConcurrent ? undefined : own;
        isConcurrent &&= running > 0;
      };
      own.then(end, end);
      return own;
    },
    invalidate() {
      credential = undefined;
      token?.drop();
      ca?.drop();
    },
    reloadTls: () => ca?.drop(),
  };
}

/**
 * Whether a new CA bundle may replace the current one. A file that is written in place may be read
 * half-written. gatecar would then trust no server until the next check.
 */
export function isUsableCaBundle(bundle: Buffer | string, held: Buffer | string | undefined): boolean {
  if (held === undefined) return true;
  try {
    return certificatesIn(Buffer.from(bundle)).length > 0;
  } catch {
    return false;
  }
}

/**
 * Reads {@link bearer} from a file. If the file has no token, returns `held`, which is valid until
 * the API server rejects it.
 */
export async function readBearer(file: WatchedFile, what: string, held: string | undefined): Promise<string> {
  try {
    return bearer(await readCredentialFile(file, what), what);
  } catch (error) {
    if (held === undefined) throw error;
    return held;
  }
}

/**
 * Builds gatecar's `Authorization` value from the bytes of a token file. It trims the line ends
 * that editors and `echo` add.
 */
export function bearer(content: Buffer, what: string): string {
  const token = content.toString('utf8').trim();
  if (!/^[\x21-\x7e]+$/.test(token)) throw new EndpointError(`${what} does not hold a token`);
  return `Bearer ${token}`;
}

/** Reads a file. @throws {EndpointError} that names the file and the system's error code. */
export async function readCredentialFile(file: WatchedFile, what: string): Promise<Buffer> {
  try {
    return await file.read();
  } catch (error) {
    throw new EndpointError(`${what} cannot be read: ${errorCode(error)}`);
  }
}
