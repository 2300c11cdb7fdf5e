import { loadSync } from '@grpc/proto-loader';
import t from 'tap';
import type { AuthResponse } from '../../../src/gateway/auth-response.ts';
import { checkResponse } from '../../../src/gateway/grpc/check-response.ts';
import { ENVOY_INCLUDES } from '../../fixtures/envoy-client.ts';

const loaded = loadSync('envoy/service/auth/v3/external_auth.proto', {
  ...{ keepCase: true, longs: Number, enums: Number, oneofs: true, includeDirs: [...ENVOY_INCLUDES] },
});
const official = loaded['envoy.service.auth.v3.CheckResponse'] as unknown as { deserialize(bytes: Buffer): unknown };

/** What Envoy reads, by the official files; what is not there is left out. */
function decoded(answer: AuthResponse): unknown {
  const bytes = checkResponse(answer);
  t.equal(bytes[0], 0, 'it is not compressed');
  t.equal(bytes.readUInt32BE(1), bytes.length - 5, 'its length is before it');
  return official.deserialize(bytes.subarray(5));
}

t.test('an allow overwrites every header that has a value and removes every one that has none', async t => {
  const headers = ['Content-Length', '0', 'Cache-Control', 'no-store', 'X-User', 'me', 'X-Pod', ''];
  const remove = ['x-envoy-auth-headers-to-remove', 'X-Pod'];
  t.same(decoded({ status: 200, headers: [...headers, ...remove], body: '', text: '' }), {
    status: { code: 0, message: '' },
    http_response: 'ok_response',
    ok_response: {
      headers: [{ header: { key: 'X-User', value: 'me' } }, { header: { key: 'X-Pod', value: '' } }],
      headers_to_remove: ['X-Pod'],
    },
  });
});

t.test('an allow without any header is still an allow, and says so', async t => {
  t.same(decoded({ status: 200, headers: [], body: '', text: '' }), {
    status: { code: 0, message: '' },
    http_response: 'ok_response',
    ok_response: {},
  });
});

t.test('a refusal has the code of its status, and status, headers and body for the client', async t => {
  for (const [status, code] of [
    [401, 16],
    [403, 7],
    [503, 14],
  ] as const) {
    const headers = ['Content-Length', '2', 'Cache-Control', 'no-store', 'Empty', ''];
    t.same(decoded({ status, headers, body: '{"é漢":1}', text: 'why é 😀' }), {
      status: { code, message: 'why é 😀' },
      http_response: 'denied_response',
      denied_response: {
        status: { code: status },
        headers: [{ header: { key: 'Cache-Control', value: 'no-store' } }, { header: { key: 'Empty', value: '' } }],
        body: '{"é漢":1}',
      },
    });
  }
});

t.test('what is long is told whole', async t => {
  const text = 'x'.repeat(70_000);
  t.match(decoded({ status: 401, headers: ['A', text], body: text, text }), {
    status: { message: text },
    denied_response: { headers: [{ header: { value: text } }], body: text },
  });
});
