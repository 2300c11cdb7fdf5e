import { describeCause, type UnavailableCause } from '../decision/decision.ts';
import { errorCode } from '../system/error-code.ts';
import { createCredentialRefresher, sameCredential } from './credential-refresh.ts';
import { createDispatcher } from './dispatcher.ts';
import { EndpointError, type EndpointSource, type KubeEndpoint } from './endpoint.ts';
import type { HttpResponse } from './http-request.ts';
import { sendRequest } from './http-request.ts';
import { classifyNetworkError } from './network-error.ts';

/**
 * Thrown if no response arrived, or none that could be read. It names the class of the fault, never
 * what was sent or received.
 */
export class KubeApiError extends Error {
  override readonly name = 'KubeApiError';
  readonly outage: UnavailableCause;

  constructor(outage: UnavailableCause, message = describeCause(outage)) {
    super(message);
    this.outage = outage;
  }
}

/** An HTTP client for the API server with keep-alive connections. */
export interface KubeApiClient {
  /**
   * Posts JSON to a path below the endpoint's base URL.
   *
   * @param signal ends the call, even while it waits for a file or a plugin.
   * @param headers sent in addition to gatecar's own, for tracing.
   * @throws {KubeApiError} if no whole response arrives.
   */
  post(path: string, body: string, signal: AbortSignal, headers?: Headers): Promise<HttpResponse>;
  /** Gets JSON in the same way. */
  get(path: string, signal: AbortSignal): Promise<HttpResponse>;
  close(): Promise<void>;
}

export interface KubeApiClientOptions {
  readonly source: () => Promise<EndpointSource>;
  /**
   * How many connections may be open for posts. {@link KubeApiClient.get} has one more connection,
   * and no post waits for it.
   */
  readonly maxConnections: number;
  readonly userAgent: string;
  readonly now?: () => number;
}

type Headers = Readonly<Record<string, string>>;

interface ApiRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body: string | undefined;
  readonly signal: AbortSignal;
  readonly headers?: Headers | undefined;
}

/**
 * Creates a client. It opens no connection before the first request. If the source fails, the next
 * request tries it again.
 */
export function createKubeApiClient(options: KubeApiClientOptions): KubeApiClient {
  const { send, close } = createSender(options.maxConnections, options.userAgent);
  const credentials = createCredentialRefresher(options.now ?? (() => performance.now()));
  let opened: Promise<EndpointSource> | undefined;

  const source = (): Promise<EndpointSource> => {
    opened ??= options.source().catch(error => {
      opened = undefined;
      throw error;
    });
    return opened;
  };

  const attempt = async (request: ApiRequest): Promise<HttpResponse> => {
    const endpoints = await source();
    let endpoint = await endpoints.current();
    let answer: HttpResponse;
    try {
      answer = await send(endpoint, request);
    } catch (error) {
      endpoint = await endpointForRetry(error, endpoints, endpoint);
      answer = await send(endpoint, request);
    }
    if (answer.status !== 401) return answer;
    // The API server rejected gatecar's own credential, not the caller's. The credential may have
    // been rotated since it was read.
    const fresh = await credentials.refresh(endpoints, endpoint);
    if (sameCredential(endpoint, fresh)) return answer;
    const second = await send(fresh, request);
    if (second.status === 401) credentials.onFreshCredentialRejected();
    return second;
  };

  const ask = (request: ApiRequest): Promise<HttpResponse> => untilAborted(request.signal, () => attempt(request));

  return {
    post: (path, body, signal, headers) => ask({ method: 'POST', path, body, signal, headers }),
    get: (path, signal) => ask({ method: 'GET', path, body: undefined, signal }),
    close,
  };
}

/** Sends requests to an endpoint over keep-alive connections. */
interface Sender {
  /** @throws {KubeApiError} if the signal is aborted. */
  send(endpoint: KubeEndpoint, request: ApiRequest): Promise<HttpResponse>;
  close(): Promise<void>;
}

function createSender(maxConnections: number, userAgent: string): Sender {
  const dispatchers = { POST: createDispatcher(maxConnections), GET: createDispatcher(1) };
  const targetOf = memoizeLast((endpoint: KubeEndpoint) => target(endpoint, userAgent));
  return {
    send(endpoint, { method, path, body = null, signal, headers }) {
      // Reading a file or running a plugin ignores the signal, and may have taken too long.
      if (signal.aborted) throw new KubeApiError('timeout');
      const { origin, prefix, own } = targetOf(endpoint);
      return sendRequest(dispatchers[method].get(endpoint), {
        origin,
        path: prefix + path,
        method,
        headers: headers === undefined ? own[method] : { ...own[method], ...headers, ...endpoint.headers },
        body,
        signal,
      });
    },
    async close() {
      await Promise.all([dispatchers.POST.close(), dispatchers.GET.close()]);
    },
  };
}

/**
 * Returns the endpoint for a second attempt, or rethrows the error if a second attempt cannot help.
 * A review changes nothing, so it can be repeated.
 */
async function endpointForRetry(error: unknown, endpoints: EndpointSource, tried: KubeEndpoint): Promise<KubeEndpoint> {
  const outage = classifyNetworkError(error);
  // The server may close a keep-alive connection just as gatecar uses it.
  if (outage === 'connection_reset') return endpoints.current();
  if (outage !== 'tls') throw error;
  // One side may have received its new certificate slightly before the other.
  endpoints.reloadTls();
  const fresh = await endpoints.current();
  if (fresh.tls === tried.tls) throw error;
  return fresh;
}

/**
 * Waits for a request until the signal aborts. File reads and plugin runs in progress continue in
 * the background.
 *
 * @throws {KubeApiError}
 */
function untilAborted(signal: AbortSignal, request: () => Promise<HttpResponse>): Promise<HttpResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpResponse>();
  const abort = (): void => reject(new KubeApiError('timeout'));
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  const end = (): void => signal.removeEventListener('abort', abort);
  request().then(
    answer => {
      end();
      resolve(answer);
    },
    error => {
      end();
      reject(toApiError(error));
    },
  );
  return promise;
}

/** The parts of an endpoint that each request uses. */
interface Target {
  readonly origin: string;
  /** The base URL's path. */
  readonly prefix: string;
  readonly own: Readonly<Record<ApiRequest['method'], Headers>>;
}

function target({ baseUrl, headers }: KubeEndpoint, userAgent: string): Target {
  const url = new URL(baseUrl);
  const accept = 'application/json';
  return {
    origin: url.origin,
    prefix: url.pathname.replace(/\/+$/, ''),
    own: {
      POST: { 'content-type': 'application/json', accept, 'user-agent': userAgent, ...headers },
      // The JWKS has its own media type. The API server answers 406 if the client does not accept
      // it.
      GET: {
        accept: `${accept}, application/jwk-set+json`,
        // Requests the current keys, not a proxy's cached copy.
        'cache-control': 'no-cache',
        'user-agent': userAgent,
        ...headers,
      },
    },
  };
}

/** Caches the last result as long as the argument is the same object. */
function memoizeLast<A extends object, B>(make: (from: A) => B): (from: A) => B {
  let made: { readonly from: A; readonly to: B } | undefined;
  return from => {
    if (made?.from !== from) made = { from, to: make(from) };
    return made.to;
  };
}

/** Converts an error to a {@link KubeApiError}, in gatecar's own words. */
function toApiError(error: unknown): KubeApiError {
  if (error instanceof KubeApiError) return error;
  if (error instanceof EndpointError) return new KubeApiError('client_unavailable', error.message);
  const outage = classifyNetworkError(error);
  return new KubeApiError(outage, `${describeCause(outage)} (${errorCode(error)})`);
}
