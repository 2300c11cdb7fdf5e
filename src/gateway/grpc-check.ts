import { isIP } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import type { Authorize } from '../authorize.ts';
import { type Credential, readCredential } from '../credential/bearer.ts';
import type { Decision, Unavailable } from '../decision/decision.ts';
import { type Answer, headerPairs } from './answer.ts';
import { type Decided, type Follow, INTERNAL_ERROR, question } from './decided.ts';
import { type CheckRequest, type CheckResponse, checkResponse, requestHeaders } from './ext-authz.ts';
import { type Forwarded, type ForwardedOptions, readForwarded, reportedTrace } from './forwarded.ts';

/** How long an answer may take to leave once it is given, and a request to come that was sent before we closed, in milliseconds. */
const SETTLE_MS = 250;

/** The longest that Node's timers can wait; past it they fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** How long before a gateway's deadline it is answered: this part of the time it gave, and milliseconds at the least. */
const DEADLINE_MARGIN = 0.1;
const DEADLINE_MARGIN_MS = 20;

export interface CheckOptions extends ForwardedOptions {
  readonly authorize: Authorize;
  readonly answer: (decision: Decision) => Answer;
  readonly onDecision?: (decided: Decided) => void;
  readonly follow?: Follow | undefined;
  /** Told of an error nobody foresaw; the request has been answered as unavailable. */
  readonly onFault: (error: unknown) => void;
  readonly now?: () => number;
}

const LATE: Unavailable = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 1,
};

type Source = NonNullable<CheckRequest['attributes']>['source'];
type Call = ServerUnaryCall<CheckRequest, CheckResponse>;

/** Counts calls, since the library waits for connections and for health watches, which need not ever end. */
export interface UnderWay {
  begin(): void;
  end(): void;
  /** Resolves once there was no call for a while. */
  settled(): Promise<void>;
}

/** Starts with none. */
export function underWay(): UnderWay {
  let calls = 0;
  let ended = Promise.withResolvers<void>();
  return {
    begin() {
      calls += 1;
    },
    end() {
      calls -= 1;
      ended.resolve();
      ended = Promise.withResolvers();
    },
    async settled() {
      do {
        while (calls > 0) await ended.promise;
        await wait(SETTLE_MS);
      } while (calls > 0);
    },
  };
}

/**
 * Answers `Check` as the HTTP listener answers `/auth`. It never fails as an RPC, which a gateway may take as leave to
 * fail open: our own faults, and a deadline that is about to pass, are answered as a denial with status `UNAVAILABLE`.
 */
export function checker(
  options: CheckOptions,
  calls: UnderWay,
): (call: Call, callback: sendUnaryData<CheckResponse>) => void {
  const { authorize, answer: render, onDecision, onFault, follow, now = () => performance.now() } = options;

  return (call, callback) => {
    const start = now();
    calls.begin();
    const http = call.request.attributes?.request?.http;
    const headers = requestHeaders(http);
    const credential = readCredential(headers);
    let peer = 'unknown';
    let trail: Decided['trail'];
    let answered = false;

    const finish = (decision: Decision): void => {
      if (answered) return;
      const answer = render(decision);
      const response = checkResponse(answer);
      answered = true;
      calls.end();
      callback(null, response);
      onDecision?.({
        protocol: 'grpc',
        decision,
        answer,
        credential,
        durationMs: now() - start,
        forwarded: () => forwardedIn(peer, call, headers, credential, options),
        trail,
      });
    };
    const fail = (error: unknown): void => {
      onFault(error);
      finish(INTERNAL_ERROR);
    };

    try {
      // Read now: a connection that has been closed has no address, and would pass for a Unix socket's.
      peer = peerAddress(call.getPeer());
      trail = follow?.(() => reportedTrace(peer, namedHeaders(headers, call), credential, options));
      const decision = authorize(credential, question(clientIn(peer, call.request, options), trail));
      if (decision instanceof Promise) beforeDeadline(call, decision).then(finish).catch(fail);
      else finish(decision);
    } catch (error) {
      fail(error);
    }
  };
}

/** The decision, or that it came too late for this gateway, while it can still be told. The review itself goes on. */
async function beforeDeadline(call: Call, decision: Promise<Decision>): Promise<Decision> {
  const given = Number(call.getDeadline()) - Date.now();
  if (!Number.isFinite(given)) return decision;
  const left = given - Math.max(given * DEADLINE_MARGIN, DEADLINE_MARGIN_MS);
  const { promise: late, resolve } = Promise.withResolvers<Decision>();
  const timer = setTimeout(() => resolve(LATE), Math.min(Math.max(left, 0), MAX_TIMER_MS));
  try {
    return await Promise.race([decision, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What Envoy says about the request: the attributes, which it fills itself, before any header. */
function forwardedIn(
  peer: string,
  call: Call,
  headers: readonly string[],
  credential: Credential,
  options: ForwardedOptions,
): Forwarded {
  const { source, request } = call.request.attributes ?? {};
  const named = namedHeaders(headers, call);
  const { id, method, path } = request?.http ?? {};
  if (id) named['x-request-id'] ??= id;
  if (method) named['x-original-method'] = method;
  if (path) named['x-original-uri'] = path;
  const said = readForwarded(peer, named, credential, options);
  const client = addressIn(source);
  const isTrusted = options.trusted.has(peer);
  return isTrusted && options.clientIpHeader === undefined && client ? { ...said, clientAddress: client } : said;
}

/** Envoy's own span for this question stands in the call's metadata, before any header that a client may have written. */
function namedHeaders(headers: readonly string[], { metadata }: Call): Record<string, string> {
  const named: Record<string, string> = {};
  for (const [name, value] of headerPairs(headers)) named[name.toLowerCase()] = value;
  const traceparent = metadata.get('traceparent').join();
  if (traceparent === '') return named;
  return { ...named, traceparent, tracestate: metadata.get('tracestate').join() };
}

/** The client's address for the failure limit: the one that Envoy itself saw, since it passes on every header a client wrote. */
function clientIn(
  peer: string,
  { attributes }: CheckRequest,
  { trusted, limitsClients }: ForwardedOptions,
): string | undefined {
  if (!limitsClients || !trusted.has(peer)) return undefined;
  const client = addressIn(attributes?.source);
  return client === undefined || trusted.has(client) ? undefined : client;
}

/** The zone of an IPv6 address is any text. */
function addressIn(source: Source): string | undefined {
  const address = source?.address?.socket_address?.address ?? '';
  return isIP(address) === 0 || address.includes('%') ? undefined : address;
}

/** `127.0.0.1:4711` and `::1:4711` → the address alone; the library says `unknown` for a Unix socket. */
function peerAddress(peer: string): string {
  return peer === 'unknown' ? '' : peer.slice(0, peer.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}
