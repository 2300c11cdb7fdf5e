import { type AuthResponse, headerPairs } from '../auth-response.ts';
import { frame } from './message/message-reader.ts';
import { delimitedField, numberField, textBytes } from './message/protobuf.ts';

/** The `google.rpc.Code` for each HTTP status that gatecar returns. */
const RPC_CODE = { 200: 0, 401: 16, 403: 7, 503: 14 } as const;

/** Headers that Envoy writes itself, or that are meant only for gatecar's HTTP responses. */
const NOT_FOR_ENVOY = new Set(['content-length', 'x-envoy-auth-headers-to-remove']);

/**
 * Encodes an {@link AuthResponse} as a framed `envoy.service.auth.v3.CheckResponse`. An allow
 * overwrites every identity header and removes the empty ones. Any other decision passes its
 * status, headers and body to the client unchanged.
 *
 * The status is always present, because Envoy reads a missing status as OK. `append` and
 * `append_action` are unset on purpose, because values then overwrite.
 */
export function checkResponse({ status, headers, body, text }: AuthResponse): Buffer {
  const rpcStatus = numberField(1, RPC_CODE[status]) + delimitedField(2, textBytes(text));
  let http = status === 200 ? '' : delimitedField(1, numberField(1, status));
  let removed = '';
  for (const [name, value] of headerPairs(headers)) {
    const lower = name.toLowerCase();
    // `Cache-Control` describes gatecar's response. In the upstream request, it would describe the
    // client's request.
    if (NOT_FOR_ENVOY.has(lower) || (status === 200 && lower === 'cache-control')) continue;
    const header = delimitedField(1, textBytes(name)) + delimitedField(2, textBytes(value));
    http += delimitedField(2, delimitedField(1, header));
    if (value === '') removed += delimitedField(5, textBytes(name));
  }
  http += status === 200 ? removed : delimitedField(3, textBytes(body));
  return frame(delimitedField(1, rpcStatus) + delimitedField(status === 200 ? 3 : 2, http));
}
