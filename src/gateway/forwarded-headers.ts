import { BlockList, isIP } from 'node:net';
import { type Credential, presentedIn } from '../credential/authorization-header.ts';
import { redact, redactor } from '../credential/redaction.ts';
import { pathOf, sanitize } from './forwarded-value.ts';
import { readTraceContext, type TraceContext } from './trace-context.ts';

/** Peers whose word counts about whom and what they ask for. */
export interface TrustedProxies {
  /** @param address a peer's address; `undefined` or empty for a Unix socket. */
  has(address: string | undefined): boolean;
}

/** What a gateway says about the request it asks for: for logs, and whose failures are counted. */
export interface Forwarded {
  readonly clientAddress: string | undefined;
  readonly requestId: string | undefined;
  readonly method: string | undefined;
  /** Path without the query, which may hold secrets. */
  readonly uri: string | undefined;
  readonly trace: TraceContext | undefined;
}

const NO_FORWARDED: Forwarded = {
  ...{ clientAddress: undefined, requestId: undefined, method: undefined, uri: undefined, trace: undefined },
};

/** Shorter tokens occur in trace ids by chance. */
const MIN_SECRET_LENGTH = 8;

/** How many entries of a chain of addresses are looked at, from the right: each costs, and a caller may write thousands. */
const MAX_HOPS = 32;

/** @param peers CIDRs, plain addresses, or `unix` for peers on a Unix socket. Checked by the configuration already. */
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
  /** Where the gateway writes the client's address, lower case; `undefined` where it does not. */
  readonly clientIpHeader: string | undefined;
  /** Whether decisions need the client's address; where not, none is read before them. */
  readonly limitsClients?: boolean;
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * Reads what a trusted peer says about the original request, under any of the names gateways use; of any other peer it
 * takes the address alone.
 */
export function readForwarded(
  address: string | undefined,
  headers: Headers,
  credential: Credential,
  { trusted, clientIpHeader }: ForwardedOptions,
): Forwarded {
  const peer = address?.replace(/^::ffff:(?=\d+\.)/i, '');
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
    // An IPv6 address has room for a token of hexadecimal digits.
    clientAddress: client === peer || take(client) === client ? client : undefined,
    requestId: take(said('x-request-id')),
    method: take(said('x-original-method', 'x-forwarded-method')),
    uri: uri === undefined ? undefined : take(pathOf(uri)),
    trace: traceOf(headers, credential),
  };
}

/**
 * The client's address for the failure limit, as a trusted peer tells it. `undefined` where none does, or where the address is
 * itself a trusted peer's: a gateway is not to be shut out for what its clients do.
 */
export function clientAddressForLimit(
  address: string | undefined,
  headers: Headers,
  { trusted, clientIpHeader, limitsClients }: ForwardedOptions,
): string | undefined {
  if (!limitsClients || clientIpHeader === undefined) return undefined;
  const peer = address?.replace(/^::ffff:(?=\d+\.)/i, '');
  if (!trusted.has(peer)) return undefined;
  const client = clientAddress(peer, headerValue(headers, clientIpHeader), trusted);
  return client === undefined || trusted.has(client) ? undefined : client;
}

/** Whose trace a request is part of, as a trusted peer tells it. */
export function traceContextFromProxy(
  address: string | undefined,
  headers: Headers,
  credential: Credential,
  { trusted }: ForwardedOptions,
): TraceContext | undefined {
  return trusted.has(address?.replace(/^::ffff:(?=\d+\.)/i, '')) ? traceOf(headers, credential) : undefined;
}

/** The trace of a request, unless it holds a token: a trace id has room for one of hexadecimal digits. */
function traceOf(headers: Headers, credential: Credential): TraceContext | undefined {
  const trace = readTraceContext(headers);
  if (trace === undefined) return undefined;
  const presented = presentedIn(credential);
  const isSecret = presented !== undefined && presented.length >= MIN_SECRET_LENGTH;
  const withoutToken = isSecret ? redactor(presented) : redact;
  return [trace.traceId, trace.spanId, trace.state ?? ''].every(text => withoutToken(text) === text)
    ? trace
    : undefined;
}

function headerValue(headers: Headers, name: string | undefined): string | string[] | undefined {
  return name !== undefined && Object.hasOwn(headers, name) ? headers[name] : undefined;
}

/** The rightmost address that is no trusted peer: what stands further left, the client could have written itself. */
function clientAddress(
  peer: string | undefined,
  header: string | string[] | undefined,
  trusted: TrustedProxies,
): string | undefined {
  const chain = [header ?? []].flat().join(',').split(',').slice(-MAX_HOPS);
  let last = peer || undefined;
  for (const entry of chain.reverse()) {
    const address = withoutPort(entry.trim());
    // The zone of an IPv6 address is any text, and means something on the machine that wrote it alone.
    if (isIP(address) === 0 || address.includes('%')) return last;
    last = address;
    if (!trusted.has(address)) return last;
  }
  return last;
}

/** Some gateways write the port too (`203.0.113.9:4711`, `[2001:db8::1]:4711`); without it they would tell no address at all. */
function withoutPort(entry: string): string {
  const [, v6, v4] = /^(?:\[([^\]]+)\](?::\d+)?|([\d.]+):\d+)$/.exec(entry) ?? [];
  return v6 ?? v4 ?? entry;
}
