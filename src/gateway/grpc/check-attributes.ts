import { isIP } from 'node:net';
import type { Credential } from '../../credential/authorization-header.ts';
import { headerPairs } from '../auth-response.ts';
import { type Forwarded, type ForwardedOptions, readForwarded, traceContextFromProxy } from '../forwarded-headers.ts';
import type { TraceContext } from '../trace-context.ts';
import type { GrpcCall } from './grpc-call.ts';
import type { CheckRequest } from './message/check-request.ts';

/** What Envoy says about the request: the attributes, which it fills itself, before any header. */
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

/** Whose trace a check is part of, as a trusted peer tells it. */
export function traceContextFromCheck(
  call: GrpcCall,
  request: CheckRequest,
  credential: Credential,
  options: ForwardedOptions,
): TraceContext | undefined {
  return traceContextFromProxy(call.peer, namedHeaders(request.details.headers, call), credential, options);
}

/** Envoy's own span for this question stands in the call's metadata, before any header that a client may have written. */
function namedHeaders(headers: readonly string[], call: GrpcCall): Record<string, string> {
  const named: Record<string, string> = {};
  for (const [name, value] of headerPairs(headers)) named[name.toLowerCase()] = value;
  const { traceparent, tracestate } = call.headers;
  if (!traceparent) return named;
  return { ...named, traceparent: String(traceparent), tracestate: String(tracestate ?? '') };
}

/** The client's address for the failure limit: the one that Envoy itself saw, since it passes on every header a client wrote. */
export function clientAddressFromCheck(
  { peer }: GrpcCall,
  request: CheckRequest,
  { trusted, limitsClients }: ForwardedOptions,
): string | undefined {
  if (!limitsClients || !trusted.has(peer)) return undefined;
  const client = sourceAddress(request);
  return client === undefined || trusted.has(client) ? undefined : client;
}

/** The zone of an IPv6 address is any text. */
function sourceAddress({ address }: CheckRequest): string | undefined {
  return isIP(address) === 0 || address.includes('%') ? undefined : address;
}
