import { type Answer, headerPairs } from './answer.ts';

/** `envoy.service.auth.v3.CheckRequest`, as far as `ext-authz.proto` reads it. Every field may be missing. */
export interface CheckRequest {
  readonly attributes?: {
    readonly source?: {
      readonly address?: { readonly socket_address?: { readonly address?: string } | null } | null;
    } | null;
    readonly request?: { readonly http?: HttpAttributes | null } | null;
  } | null;
}

export interface HttpAttributes {
  readonly id?: string;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>> | null;
  readonly header_map?: { readonly headers?: readonly HeaderValue[] | null } | null;
}

interface HeaderValue {
  readonly key?: string;
  readonly value?: string;
  readonly raw_value?: Uint8Array;
}

interface HeaderValueOption {
  readonly header: { readonly key: string; readonly value: string };
}

/** `envoy.service.auth.v3.CheckResponse`; never without a status, since Envoy reads a missing one as OK. */
export interface CheckResponse {
  readonly status: { readonly code: number; readonly message: string };
  readonly ok_response?: {
    readonly headers: readonly HeaderValueOption[];
    readonly headers_to_remove: readonly string[];
  };
  readonly denied_response?: {
    readonly status: { readonly code: number };
    readonly headers: readonly HeaderValueOption[];
    readonly body: string;
  };
}

/** `google.rpc.Code` of each HTTP status that is answered. */
const RPC_CODE = { 200: 0, 401: 16, 403: 7, 503: 14 } as const;

/** Headers that Envoy writes itself, or that belong to our own HTTP answer alone. */
const NOT_FOR_ENVOY = new Set(['content-length', 'x-envoy-auth-headers-to-remove']);

/**
 * All headers of the request that is asked about, as a flat list of names and values. Envoy fills one of two fields,
 * `headers` (merged, one value a name) or, with `encode_raw_headers`, `header_map`; both are read, so that a credential
 * in each counts as two.
 */
export function requestHeaders(http: HttpAttributes | null | undefined): string[] {
  const flat = Object.entries(http?.headers ?? {}).flat();
  for (const { key = '', value, raw_value } of http?.header_map?.headers ?? []) {
    // Bytes one to one, as node:http has them: what is no ASCII is refused later and not repaired here.
    flat.push(key, value || Buffer.from(raw_value ?? []).toString('latin1'));
  }
  return flat;
}

/**
 * Says to Envoy over gRPC what {@link Answer} says over HTTP. An allow overwrites every identity header and removes the
 * empty ones; of a refusal, status, headers and body go to the client as they are.
 */
export function checkResponse({ status, headers, body, text }: Answer): CheckResponse {
  const rpcStatus = { code: RPC_CODE[status], message: text };
  const options: HeaderValueOption[] = [];
  const empty: string[] = [];
  for (const [key, value] of headerPairs(headers)) {
    if (NOT_FOR_ENVOY.has(key.toLowerCase())) continue;
    options.push({ header: { key, value } });
    if (value === '') empty.push(key);
  }
  if (status === 200) {
    // `Cache-Control` is about our answer; on the way to the upstream it would be about the client's request.
    const identity = options.filter(({ header }) => header.key.toLowerCase() !== 'cache-control');
    return { status: rpcStatus, ok_response: { headers: identity, headers_to_remove: empty } };
  }
  return { status: rpcStatus, denied_response: { status: { code: status }, headers: options, body } };
}
