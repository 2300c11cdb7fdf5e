import { type WatchedFile, watchedFile } from '../files/watched-file.ts';
import { certificatesIn } from '../tls/pem.ts';

/** Where the API server is and what is shown to it. */
export interface KubeEndpoint {
  /** Scheme, host, port and path prefix, without a trailing slash. */
  readonly baseUrl: string;
  /** Sent with each request; holds our own credential and is never logged. */
  readonly headers: Readonly<Record<string, string>>;
  /** The same object for as long as nothing in it has changed. */
  readonly tls: KubeTls;
  /** An HTTP proxy between us and the API server (kubeconfig `proxy-url`). */
  readonly proxyUrl: string | undefined;
}

export interface KubeTls {
  readonly ca?: Buffer | string;
  readonly cert?: Buffer | string;
  readonly key?: Buffer | string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

/** Knows the endpoint as it is now: files are re-read when they change, plugins run when a credential has run out. */
export interface EndpointSource {
  /** @throws {EndpointError} when there is no way to an endpoint. */
  current(): Promise<KubeEndpoint>;
  /** The credential was refused: the next {@link current} reads or makes it anew. */
  drop(): void;
  /** The server was not believed, or did not believe us: the next {@link current} looks at the files whatever the time. */
  recheck(): void;
}

/** Says in our own words, without any content of a file or a plugin's output, why there is no endpoint. */
export class EndpointError extends Error {
  override readonly name = 'EndpointError';
}

export interface ExplicitEndpointOptions {
  readonly url: string;
  /** Holds our own bearer token; none is sent without it. */
  readonly tokenFile: string | undefined;
  /** PEM bundle to trust instead of the system's. */
  readonly caFile: string | undefined;
  readonly now?: () => number;
}

/** An endpoint at a known address, with files as the kubelet projects them. */
export function explicitEndpoint({ url, tokenFile, caFile, now }: ExplicitEndpointOptions): EndpointSource {
  const token = tokenFile === undefined ? undefined : watchedFile(tokenFile, now);
  const ca = caFile === undefined ? undefined : watchedFile(caFile, now);
  let tls: KubeTls = {};
  let credential: string | undefined;
  let endpoint: KubeEndpoint | undefined;
  let seen: Promise<KubeEndpoint> | undefined;
  let looks = 0;
  let areSeveral = false;

  const look = async (): Promise<KubeEndpoint> => {
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
    // Between two looks at the disk, all reviews would make the same of the same bytes.
    current() {
      if (seen !== undefined && !token?.isDue && !ca?.isDue) return seen;
      const own = look();
      areSeveral ||= looks > 0;
      looks += 1;
      const end = (): void => {
        looks -= 1;
        // Of several at once, one may have read what was there before the other did: the next look tells.
        seen = areSeveral ? undefined : own;
        areSeveral &&= looks > 0;
      };
      own.then(end, end);
      return own;
    },
    drop() {
      credential = undefined;
      token?.drop();
      ca?.drop();
    },
    recheck: () => ca?.drop(),
  };
}

/**
 * Whether a CA bundle is to take the other's place. A file written in place is seen half-written, and would have us
 * trust nobody until the next look.
 */
export function isUsableCaBundle(bundle: Buffer | string, held: Buffer | string | undefined): boolean {
  if (held === undefined) return true;
  try {
    return certificatesIn(Buffer.from(bundle)).length > 0;
  } catch {
    return false;
  }
}

/** {@link bearer} of a file, or the one that is held while the file has none: it is good until it is refused. */
export async function readBearer(file: WatchedFile, what: string, held: string | undefined): Promise<string> {
  try {
    return bearer(await readCredentialFile(file, what), what);
  } catch (error) {
    if (held === undefined) throw error;
    return held;
  }
}

/** Our own `Authorization` value from a token file's bytes; editors and `echo` leave line ends behind. */
export function bearer(content: Buffer, what: string): string {
  const token = content.toString('utf8').trim();
  if (!/^[\x21-\x7e]+$/.test(token)) throw new EndpointError(`${what} does not hold a token`);
  return `Bearer ${token}`;
}

/** @throws {EndpointError} naming what cannot be read, with the system's error code. */
export async function readCredentialFile(file: WatchedFile, what: string): Promise<Buffer> {
  try {
    return await file.read();
  } catch (error) {
    throw new EndpointError(`${what} cannot be read: ${errorCode(error)}`);
  }
}

/** The system's code of an error, such as `ENOENT`: all of it that may be told, since the text can quote a file. */
export function errorCode(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : 'unknown error';
}
