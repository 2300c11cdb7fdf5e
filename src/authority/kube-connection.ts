import { Agent, type Dispatcher, ProxyAgent } from 'undici';
import type { OutageCause } from '../decision/decision.ts';
import { renewal, sameCredential } from './credential-renewal.ts';
import { EndpointError, type EndpointSource, errorCode, type KubeEndpoint, type KubeTls } from './kube-endpoint.ts';
import { outageOf } from './outage-of.ts';
import type { HttpAnswer } from './review-answer.ts';

/** Largest answer that is read, in bytes; a TokenReview with hundreds of groups has some tens of thousands. */
const MAX_RESPONSE_BYTES = 1024 * 1024;

/** How long an idle connection is kept, in milliseconds; the API server closes its own after 90 s. */
const KEEP_ALIVE_MS = 60_000;

/** No answer came, or none that could be read. Says the class of fault, never what was sent or received. */
export class KubeConnectionError extends Error {
  override readonly name = 'KubeConnectionError';
  readonly outage: OutageCause;

  constructor(outage: OutageCause, message: string = outage) {
    super(message);
    this.outage = outage;
  }
}

/** Kept-alive HTTP to the API server. */
export interface KubeConnection {
  /**
   * Posts JSON to a path below the endpoint's base URL.
   *
   * @param signal ends everything, reading files and running plugins included.
   * @param headers sent beside our own, for whoever traces.
   * @throws {KubeConnectionError} where no whole answer could be had.
   */
  post(path: string, body: string, signal: AbortSignal, headers?: Headers): Promise<HttpAnswer>;
  /** Gets JSON, likewise. */
  get(path: string, signal: AbortSignal): Promise<HttpAnswer>;
  close(): Promise<void>;
}

export interface KubeConnectionOptions {
  readonly source: () => Promise<EndpointSource>;
  /** How many connections may be open at once. */
  readonly maxConnections: number;
  readonly userAgent: string;
  readonly now?: () => number;
}

type Headers = Readonly<Record<string, string>>;

interface Question {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body: string | undefined;
  readonly signal: AbortSignal;
  readonly headers?: Headers | undefined;
}

/** Opens nothing before the first {@link KubeConnection.post}; a source that fails is tried again by the next. */
export function kubeConnection(options: KubeConnectionOptions): KubeConnection {
  const dispatchers = dispatcherFor(options.maxConnections);
  const credentials = renewal(options.now ?? (() => performance.now()));
  let opened: Promise<EndpointSource> | undefined;

  const source = (): Promise<EndpointSource> => {
    opened ??= options.source().catch(error => {
      opened = undefined;
      throw error;
    });
    return opened;
  };

  const send = async (
    endpoint: KubeEndpoint,
    { method, path, body, signal, headers }: Question,
  ): Promise<HttpAnswer> => {
    const url = new URL(endpoint.baseUrl);
    const request: Dispatcher.RequestOptions = {
      origin: url.origin,
      path: url.pathname.replace(/\/+$/, '') + path,
      method,
      headers: {
        ...(body !== undefined && { 'content-type': 'application/json' }),
        // The cluster's keys have a type of their own, and nothing is answered (406) where it is not accepted.
        accept: method === 'GET' ? 'application/json, application/jwk-set+json' : 'application/json',
        'user-agent': options.userAgent,
        ...headers,
        ...endpoint.headers,
      },
      body: body ?? null,
      signal,
    };
    return exchange(dispatchers.get(endpoint), request);
  };

  /** How to ask once more, where that may help: a review changes nothing, so it can be repeated. */
  const another = async (error: unknown, endpoints: EndpointSource, tried: KubeEndpoint): Promise<KubeEndpoint> => {
    const outage = outageOf(error);
    // The server may close a kept-alive connection just as we use it.
    if (outage === 'connection reset') return endpoints.current();
    if (outage !== 'tls') throw error;
    // The one side may have been given its new certificate a moment before the other.
    endpoints.recheck();
    const fresh = await endpoints.current();
    if (fresh.tls === tried.tls) throw error;
    return fresh;
  };

  const attempt = async (question: Question): Promise<HttpAnswer> => {
    const endpoints = await source();
    let endpoint = await endpoints.current();
    const answer = await send(endpoint, question).catch(async error => {
      endpoint = await another(error, endpoints, endpoint);
      return send(endpoint, question);
    });
    if (answer.status !== 401) return answer;
    // Our own credential was refused, not the caller's. It may have been rotated since it was read.
    const fresh = await credentials.renew(endpoints, endpoint);
    if (sameCredential(endpoint, fresh)) return answer;
    const second = await send(fresh, question);
    if (second.status === 401) credentials.inVain();
    return second;
  };

  const ask = async (question: Question): Promise<HttpAnswer> => {
    try {
      return await untilAborted(attempt(question), question.signal);
    } catch (error) {
      if (error instanceof KubeConnectionError) throw error;
      if (error instanceof EndpointError) throw new KubeConnectionError('no client', error.message);
      const outage = outageOf(error);
      throw new KubeConnectionError(outage, `${outage} (${errorCode(error)})`);
    }
  };

  return {
    post: (path, body, signal, headers) => ask({ method: 'POST', path, body, signal, headers }),
    get: (path, signal) => ask({ method: 'GET', path, body: undefined, signal }),
    close: () => dispatchers.close(),
  };
}

async function exchange(dispatcher: Dispatcher, request: Dispatcher.RequestOptions): Promise<HttpAnswer> {
  const { statusCode, headers, body } = await dispatcher.request(request);
  const retryAfter = Number(headers['retry-after'] ?? Number.NaN);
  return {
    status: statusCode,
    body: await body.text(),
    retryAfterSeconds: Number.isInteger(retryAfter) && retryAfter >= 0 ? retryAfter : undefined,
    maxAgeSeconds: maxAge(headers['cache-control']),
    sentAtMs: Date.parse(String(headers['date'])) || undefined,
  };
}

function maxAge(cacheControl: string | string[] | undefined): number | undefined {
  const [, seconds] = /\bmax-age=(\d{1,9})\b/i.exec(String(cacheControl ?? '')) ?? [];
  return seconds === undefined ? undefined : Number(seconds);
}

/** Holds one dispatcher, replaced when the endpoint's TLS material or proxy changes; the old one ends its work first. */
function dispatcherFor(maxConnections: number) {
  let held: { tls: KubeTls; proxyUrl: string | undefined; dispatcher: Dispatcher } | undefined;
  return {
    get({ tls, proxyUrl }: KubeEndpoint): Dispatcher {
      if (held?.tls === tls && held.proxyUrl === proxyUrl) return held.dispatcher;
      const dispatcher = newDispatcher(tls, proxyUrl, maxConnections);
      held?.dispatcher.close().catch(() => {});
      held = { tls, proxyUrl, dispatcher };
      return dispatcher;
    },
    async close() {
      await held?.dispatcher.destroy();
    },
  };
}

function newDispatcher(tls: KubeTls, proxyUrl: string | undefined, maxConnections: number): Dispatcher {
  const common = {
    connections: maxConnections,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxResponseSize: MAX_RESPONSE_BYTES,
    allowH2: false,
  };
  if (proxyUrl === undefined) return new Agent({ ...common, connect: tls });
  if (!/^https?:/.test(proxyUrl)) throw new EndpointError('kubeconfig: only an http or https proxy-url is supported');
  return new ProxyAgent({ ...common, uri: proxyUrl, requestTls: tls });
}

/** Files and plugins know no signal: past it they are left alone and nobody waits for them. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const abort = () => reject(new KubeConnectionError('timeout'));
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  return promise;
}
