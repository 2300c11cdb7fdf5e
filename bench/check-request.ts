import { loadSync } from '@grpc/proto-loader';
import { ENVOY_INCLUDES } from '../test/fixtures/envoy-client.ts';

const METHOD = '/envoy.service.auth.v3.Authorization/Check';

interface Serializer {
  readonly Check: { readonly requestSerialize: (request: unknown) => Buffer };
}

/** The path and headers of a Check RPC over HTTP/2, as Envoy sends them. */
export const CHECK = { path: METHOD, headers: { 'content-type': 'application/grpc', te: 'trailers' } } as const;

/**
 * Returns Envoy 1.40's CheckRequest for a GET of `/zones` with this token and `encode_raw_headers`,
 * framed for gRPC.
 */
export function checkRequest(token: string): Buffer {
  const official = loadSync('envoy/service/auth/v3/external_auth.proto', {
    keepCase: true,
    includeDirs: ENVOY_INCLUDES,
  });
  const { Check } = official['envoy.service.auth.v3.Authorization'] as unknown as Serializer;
  const address = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } });
  const headers = {
    ':authority': 'bindcar.example.com',
    ':path': '/zones',
    ':method': 'GET',
    ':scheme': 'http',
    authorization: `Bearer ${token}`,
    'user-agent': 'curl/8.5.0',
    accept: '*/*',
    'x-forwarded-proto': 'http',
    'x-request-id': '8f3e4c1c-5d0e-4d53-b8e5-9a4b7c2d1e0f',
    'x-forwarded-for': '127.0.0.1',
    'x-envoy-internal': 'true',
  };
  const message = Check.requestSerialize({
    attributes: {
      source: { address: { ...address(43_210) } },
      destination: { address: { ...address(8080) } },
      request: {
        time: { seconds: 1_790_000_000, nanos: 123_456_000 },
        http: {
          id: '1234567890123456789',
          method: 'GET',
          path: '/zones',
          host: 'bindcar.example.com',
          scheme: 'http',
          protocol: 'HTTP/1.1',
          header_map: {
            headers: Object.entries(headers).map(([key, value]) => ({ key, raw_value: Buffer.from(value) })),
          },
        },
      },
      metadata_context: {},
      route_metadata_context: {},
    },
  });
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
