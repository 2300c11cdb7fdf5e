import { BlockList, isIP } from 'node:net';
import { type Credential, presentedIn } from '../credential/authorization-header.ts';
import { redact, redactor } from '../credential/redaction.ts';
import { MAX_FORWARDED_HOPS, MIN_REDACTED_LENGTH } from '../limits/constants.ts';
import { pathOf, sanitize } from './forwarded-value.ts';
import { readTraceContext, type TraceContext } from './trace-context.ts';

/** Proxies that gatecar trusts to report the client's address and the original request. */
export interface TrustedProxies {
  /** @param address the peer's address; `undefined` or empty for a Unix socket. */
  has(address: string | undefined): boolean;
}

/**
 * What a gateway reports about the original request. Used for logs and to count failures per
 * client.
 */
export interface Forwarded {
  readonly clientAddress: string | undefined;
  readonly requestId: string | undefined;
  readonly method: string | undefined;
  /** Path without the query, which may hold secrets. */
  readonly uri: string | undefined;
  readonly trace: TraceContext | undefined;
}

const NO_FORWARDED: Forwarded = {
  clientAddress: undefined,
  requestId: undefined,
  method: undefined,
  uri: undefined,
  trace: undefined,
};

/**
 * Creates the set of trusted proxies.
 *
 * @param peers CIDRs, plain addresses, or `unix` for peers on a Unix socket. The configuration has
 *   validated them.
 */
export function trustedProxies(peers: readonly string[]): TrustedProxies {
  const list = new BlockList();
  for (const peer of peers) {
    if (peer === 'unix') continue;
    const [address = '', bits] = peer.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  const unix = peers.includes('unix');
  return {
    has(address) {
      if (address === undefined || address === '') return unix;
      const version = isIP(address);
      return version !== 0 && list.check(address, version === 6 ? 'ipv6' : 'ipv4');
    },
  };
}

export interface ForwardedOptions {
  readonly trusted: TrustedProxies;
  /**
   * The header, in lower case, in which the gateway writes the client's address; `undefined` if
   * there is none.
   */
  readonly clientIpHeader: string | undefined;
  /** Whether decisions need the client's address. If not, it is not read before a decision. */
  readonly limitsClients?: boolean;
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * Reads what a trusted proxy reports about the original request, under any header name that
 * gateways use. For any other peer, returns only its address.
 */
export function readForwarded(
  address: string | undefined,
  headers: Headers,
  credential: Credential,
  { trusted, clientIpHeader }: ForwardedOptions,
): Forwarded {
  const peer = unmapped(address);
  if (!trusted.has(peer)) {
    return { ...NO_FORWARDED, clientAddress: peer || undefined };
  }
  const said = (...names: string[]): string | undefined => {
    for (const name of names) {
      const value = headers[name];
      if (typeof value === 'string' && value !== '') return value;
    }
    return undefined;
  };
  const withoutToken = redactor(presentedIn(credential));
  const take = (value: string | undefined) => (value === undefined ? undefined : sanitize(value, withoutToken));
  const uri = said('x-original-uri', 'x-original-url', 'x-forwarded-uri', 'x-envoy-original-path');
  const client = clientAddress(peer, headerValue(headers, clientIpHeader), trusted);
  return {
    // An IPv6 address can contain a token of hexadecimal digits. If redaction changes it, drop it.
    clientAddress: client === peer || take(client) === client ? client : undefined,
    requestId: take(said('x-request-id')),
    method: take(said('x-original-method', 'x-forwarded-method')),
    uri: uri === undefined ? undefined : take(pathOf(uri)),
    trace: traceOf(headers, credential),
  };
}

/**
 * Returns the client's address for the failure limit, as a trusted proxy reports it. Returns
 * `undefined` if no trusted proxy reports one, or if the address belongs to a trusted proxy. A
 * gateway must not be blocked for the failures of its clients.
 */
export function clientAddressForLimit(
  address: string | undefined,
  headers: Headers,
  { trusted, clientIpHeader, limitsClients }: ForwardedOptions,
): string | undefined {
  if (!limitsClients || clientIpHeader === undefined) return undefined;
  const peer = unmapped(address);
  if (!trusted.has(peer)) return undefined;
  const client = clientAddress(peer, headerValue(headers, clientIpHeader), trusted);
  return client === undefined || trusted.has(client) ? undefined : client;
}

/** Reads the trace context of a request, if the peer is a trusted proxy. */
export function traceContextFromProxy(
  address: string | undefined,
  headers: Headers,
  credential: Credential,
  { trusted }: ForwardedOptions,
): TraceContext | undefined {
  return trusted.has(unmapped(address)) ? traceOf(headers, credential) : undefined;
}

/**
 * Reads the trace context, unless it contains a token. A trace id can contain a token of
 * hexadecimal digits.
 */
function traceOf(headers: Headers, credential: Credential): TraceContext | undefined {
  const trace = readTraceContext(headers);
  if (trace === undefined) return undefined;
  const presented = presentedIn(credential);
  const isSecret = presented !== undefined && presented.length >= MIN_REDACTED_LENGTH;
  const withoutToken = isSecret ? redactor(presented) : redact;
  return [trace.traceId, trace.spanId, trace.state ?? ''].every(text => withoutToken(text) === text)
    ? trace
    : undefined;
}

/** Converts an IPv4-mapped IPv6 address to IPv4. */
function unmapped(address: string | undefined): string | undefined {
  return address?.replace(/^::ffff:(?=\d+\.)/i, '');
}

function headerValue(headers: Headers, name: string | undefined): string | string[] | undefined {
  return name !== undefined && Object.hasOwn(headers, name) ? headers[name] : undefined;
}

/**
 * Returns the rightmost address that is not a trusted proxy. The client could have written any
 * entry to the left of it.
 */
function clientAddress(
  peer: string | undefined,
  header: string | string[] | undefined,
  trusted: TrustedProxies,
): string | undefined {
  const chain = [header ?? []].flat().join(',').split(',').slice(-MAX_FORWARDED_HOPS);
  let last = peer || undefined;
  for (const entry of chain.reverse()) {
    const address = withoutPort(entry.trim());
    // The zone of an IPv6 address is arbitrary text, and only the machine that wrote it can
    // interpret it.
    if (isIP(address) === 0 || address.includes('%')) return last;
    last = address;
    if (!trusted.has(address)) return last;
  }
  return last;
}

/**
 * Removes the port, which some gateways append (`203.0.113.9:4711`, `[2001:db8::1]:4711`). With the
 * port, the entry would not be read as an address.
 */
function withoutPort(entry: string): string {
  const [, v6, v4] = /^(?:\[([^\]]+)\](?::\d+)?|([\d.]+):\d+)$/.exec(entry) ?? [];
  return v6 ?? v4 ?? entry;
}
