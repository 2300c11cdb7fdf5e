import type { UnavailableCause } from '../decision/decision.ts';
import { createCredentialRefresher, sameCredential } from './credential-refresh.ts';
import { createDispatcher } from './dispatcher.ts';
import { EndpointError, type EndpointSource, errorCode, type KubeEndpoint } from './endpoint.ts';
import type { HttpResponse } from './http-request.ts';
import { sendRequest } from './http-request.ts';
import { classifyNetworkError } from './network-error.ts';

/** No answer came, or none that could be read. Says the class of fault, never what was sent or received. */
export class KubeApiError extends Error {
  override readonly name = 'KubeConnectionError';
  readonly outage: UnavailableCause;

  constructor(outage: UnavailableCause, message: string = outage) {
    super(message);
    this.outage = outage;
  }
}

/** Kept-alive HTTP to the API server. */
export interface KubeApiClient {
  /**
   * Posts JSON to a path below the endpoint's base URL.
   *
   * @param signal ends everything, reading files and running plugins included.
   * @param headers sent beside our own, for whoever traces.
   * @throws {KubeApiError} where no whole answer could be had.
   */
  post(path: string, body: string, signal: AbortSignal, headers?: Headers): Promise<HttpResponse>;
  /** Gets JSON, likewise. */
  get(path: string, signal: AbortSignal): Promise<HttpResponse>;
  close(): Promise<void>;
}

export interface KubeApiClientOptions {
  readonly source: () => Promise<EndpointSource>;
  /** How many connections for posts may be open at once; {@link KubeApiClient.get} has one more, and no post waits for it. */
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

/** Opens nothing before the first {@link KubeApiClient.post}; a source that fails is tried again by the next. */
export function createKubeApiClient(options: KubeApiClientOptions): KubeApiClient {
  const dispatchers = { POST: createDispatcher(options.maxConnections), GET: createDispatcher(1) };
  const targetOf = memoizeLast((endpoint: KubeEndpoint) => target(endpoint, options.userAgent));
  const credentials = createCredentialRefresher(options.now ?? (() => performance.now()));
  let opened: Promise<EndpointSource> | undefined;

  const source = (): Promise<EndpointSource> => {
    opened ??= options.source().catch(error => {
      opened = undefined;
      throw error;
    });
    return opened;
  };

  const send = (endpoint: KubeEndpoint, question: ApiRequest): Promise<HttpResponse> => {
    const { method, path, body = null, signal, headers } = question;
    // What took long before was a file or a plugin, which know no signal.
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
  };

  /** How to ask once more, where that may help: a review changes nothing, so it can be repeated. */
  const another = async (error: unknown, endpoints: EndpointSource, tried: KubeEndpoint): Promise<KubeEndpoint> => {
    const outage = classifyNetworkError(error);
    // The server may close a kept-alive connection just as we use it.
    if (outage === 'connection reset') return endpoints.current();
    if (outage !== 'tls') throw error;
    // The one side may have been given its new certificate a moment before the other.
    endpoints.recheck();
    const fresh = await endpoints.current();
    if (fresh.tls === tried.tls) throw error;
    return fresh;
  };

  const attempt = async (question: ApiRequest): Promise<HttpResponse> => {
    const endpoints = await source();
    let endpoint = await endpoints.current();
    let answer: HttpResponse;
    try {
      answer = await send(endpoint, question);
    } catch (error) {
      endpoint = await another(error, endpoints, endpoint);
      answer = await send(endpoint, question);
    }
    if (answer.status !== 401) return answer;
    // Our own credential was refused, not the caller's. It may have been rotated since it was read.
    const fresh = await credentials.renew(endpoints, endpoint);
    if (sameCredential(endpoint, fresh)) return answer;
    const second = await send(fresh, question);
    if (second.status === 401) credentials.inVain();
    return second;
  };

  /** Past the signal nobody waits any more, also for files and plugins, which are left alone. */
  const ask = (question: ApiRequest): Promise<HttpResponse> => {
    const { signal } = question;
    const { promise, resolve, reject } = Promise.withResolvers<HttpResponse>();
    const abort = (): void => reject(new KubeApiError('timeout'));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    const end = (): void => signal.removeEventListener('abort', abort);
    attempt(question).then(
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
  };

  return {
    post: (path, body, signal, headers) => ask({ method: 'POST', path, body, signal, headers }),
    get: (path, signal) => ask({ method: 'GET', path, body: undefined, signal }),
    async close() {
      await Promise.all([dispatchers.POST.close(), dispatchers.GET.close()]);
    },
  };
}

/** What of an endpoint goes into each request. */
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
      // The cluster's keys have a type of their own, and nothing is answered (406) where it is not accepted.
      GET: {
        accept: `${accept}, application/jwk-set+json`,
        // The current keys are asked for, not those that a proxy has kept.
        'cache-control': 'no-cache',
        'user-agent': userAgent,
        ...headers,
      },
    },
  };
}

/** Makes it once for as long as it is asked for the same. */
function memoizeLast<A extends object, B>(make: (from: A) => B): (from: A) => B {
  let made: { readonly from: A; readonly to: B } | undefined;
  return from => {
    if (made?.from !== from) made = { from, to: make(from) };
    return made.to;
  };
}

/** An error in our own words. */
function toApiError(error: unknown): KubeApiError {
  if (error instanceof KubeApiError) return error;
  if (error instanceof EndpointError) return new KubeApiError('no client', error.message);
  const outage = classifyNetworkError(error);
  return new KubeApiError(outage, `${outage} (${errorCode(error)})`);
}
