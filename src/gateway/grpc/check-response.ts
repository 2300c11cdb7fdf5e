import { type AuthResponse, headerPairs } from '../auth-response.ts';
import { frame } from './message/message-reader.ts';
import { delimitedField, numberField, textBytes } from './message/protobuf.ts';

/** `google.rpc.Code` of each HTTP status that is answered. */
const RPC_CODE = { 200: 0, 401: 16, 403: 7, 503: 14 } as const;

/** Headers that Envoy writes itself, or that belong to our own HTTP answer alone. */
const NOT_FOR_ENVOY = new Set(['content-length', 'x-envoy-auth-headers-to-remove']);

/**
 * Says to Envoy over gRPC what {@link AuthResponse} says over HTTP: an `envoy.service.auth.v3.CheckResponse`, framed as it is sent.
 * An allow overwrites every identity header and removes the empty ones; of a refusal, status, headers and body go to the
 * client as they are.
 *
 * Its status is never left out, since Envoy reads a missing one as OK. `append` and `append_action` are, on purpose: unset, a
 * value overwrites.
 */
export function checkResponse({ status, headers, body, text }: AuthResponse): Buffer {
  const rpcStatus = numberField(1, RPC_CODE[status]) + delimitedField(2, textBytes(text));
  let http = status === 200 ? '' : delimitedField(1, numberField(1, status));
  let removed = '';
  for (const [name, value] of headerPairs(headers)) {
    const lower = name.toLowerCase();
    // `Cache-Control` is about our answer; on the way to the upstream it would be about the client's request.
    if (NOT_FOR_ENVOY.has(lower) || (status === 200 && lower === 'cache-control')) continue;
    const header = delimitedField(1, textBytes(name)) + delimitedField(2, textBytes(value));
    http += delimitedField(2, delimitedField(1, header));
    if (value === '') removed += delimitedField(5, textBytes(name));
  }
  http += status === 200 ? removed : delimitedField(3, textBytes(body));
  return frame(delimitedField(1, rpcStatus) + delimitedField(status === 200 ? 3 : 2, http));
}
