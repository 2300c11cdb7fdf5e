import { loadSync } from '@grpc/proto-loader';
import t from 'tap';
import type { AuthResponse } from '../../../src/gateway/auth-response.ts';
import { checkResponse } from '../../../src/gateway/grpc/check-response.ts';
import { ENVOY_INCLUDES } from '../../fixtures/envoy-client.ts';

const loaded = loadSync('envoy/service/auth/v3/external_auth.proto', {
  keepCase: true,
  longs: Number,
  enums: Number,
  oneofs: true,
  includeDirs: [...ENVOY_INCLUDES],
});
const official = loaded['envoy.service.auth.v3.CheckResponse'] as unknown as { deserialize(bytes: Buffer): unknown };

/** Decodes a response by Envoy's official files; absent fields are left out. */
function decoded(answer: AuthResponse): unknown {
  const bytes = checkResponse(answer);
  t.equal(bytes[0], 0, 'the message is not compressed');
  t.equal(bytes.readUInt32BE(1), bytes.length - 5, 'the length prefix is that of the message');
  return official.deserialize(bytes.subarray(5));
}

t.test('an allow overwrites every header with a value and lists the headers to remove', async t => {
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

t.test('an allow without headers is encoded as ok_response', async t => {
  t.same(decoded({ status: 200, headers: [], body: '', text: '' }), {
    status: { code: 0, message: '' },
    http_response: 'ok_response',
    ok_response: {},
  });
});

t.test('a denial has the gRPC code of its status, and status, headers and body for the client', async t => {
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

t.test('long headers, bodies and messages are encoded whole', async t => {
  const text = 'x'.repeat(70_000);
  t.match(decoded({ status: 401, headers: ['A', text], body: text, text }), {
    status: { message: text },
    denied_response: { headers: [{ header: { value: text } }], body: text },
  });
});
