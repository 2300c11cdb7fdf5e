import { isIP } from 'node:net';
import type { Credential } from '../../credential/authorization-header.ts';
import { headerPairs } from '../auth-response.ts';
import { type Forwarded, type ForwardedOptions, readForwarded, traceContextFromProxy } from '../forwarded-headers.ts';
import type { TraceContext } from '../trace-context.ts';
import type { GrpcCall } from './grpc-call.ts';
import type { CheckRequest } from './message/check-request.ts';

/**
 * Returns what Envoy reports about the original request. The method and path attributes, which
 * Envoy fills itself, take precedence over headers.
 */
export function forwardedFromCheck(
  call: GrpcCall,
  request: CheckRequest,
  credential: Credential,
  options: ForwardedOptions,
): Forwarded {
  const { peer } = call;
  const { headers, id, method, path } = request.details;
  const named = namedHeaders(headers, call);
  if (id) named['x-request-id'] ??= id;
  if (method) named['x-original-method'] = method;
  if (path) named['x-original-uri'] = path;
  const said = readForwarded(peer, named, credential, options);
  const client = sourceAddress(request);
  const isTrusted = options.trusted.has(peer);
  return isTrusted && options.clientIpHeader === undefined && client ? { ...said, clientAddress: client } : said;
}

/** Reads the trace context of a check, if the peer is a trusted proxy. */
export function traceContextFromCheck(
  call: GrpcCall,
  request: CheckRequest,
  credential: Credential,
  options: ForwardedOptions,
): TraceContext | undefined {
  return traceContextFromProxy(call.peer, namedHeaders(request.details.headers, call), credential, options);
}

/**
 * Returns the request's headers by lower-case name. Envoy's own span for this check is in the
 * call's metadata. It takes precedence over trace headers, which the client may have written.
 */
function namedHeaders(headers: readonly string[], call: GrpcCall): Record<string, string> {
  const named: Record<string, string> = {};
  for (const [name, value] of headerPairs(headers)) named[name.toLowerCase()] = value;
  const { traceparent, tracestate } = call.headers;
  if (!traceparent) return named;
  return { ...named, traceparent: String(traceparent), tracestate: String(tracestate ?? '') };
}

/**
 * Returns the client's address for the failure limit. Uses the address that Envoy itself saw,
 * because Envoy passes on every header that a client sends.
 */
export function clientAddressFromCheck(
  { peer }: GrpcCall,
  request: CheckRequest,
  { trusted, limitsClients }: ForwardedOptions,
): string | undefined {
  if (!limitsClients || !trusted.has(peer)) return undefined;
  const client = sourceAddress(request);
  return client === undefined || trusted.has(client) ? undefined : client;
}

/**
 * Returns the client's address, unless it is invalid or has an IPv6 zone, which is arbitrary text.
 */
function sourceAddress({ address }: CheckRequest): string | undefined {
  return isIP(address) === 0 || address.includes('%') ? undefined : address;
}
