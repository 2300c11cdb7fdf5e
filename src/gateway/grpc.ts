import { type AddressInfo, isIPv6 } from 'node:net';
import { failCall, type GrpcCall, refuseRequest, STATUS } from './grpc-call.ts';
import { type CheckOptions, checker } from './grpc-check.ts';
import { grpcHealth } from './grpc-health.ts';
import { messageReader } from './grpc-message.ts';
import { http2Listener } from './http2-listener.ts';
import type { ListenerOptions } from './listener.ts';
import { ProtobufError } from './protobuf.ts';
import { underWay } from './under-way.ts';

/** How often a connection is asked whether it is still there, and how long it may take to say so, in milliseconds. */
const PING_EVERY_MS = 10_000;

export const AUTHORIZATION_SERVICE = 'envoy.service.auth.v3.Authorization';
const HEALTH_SERVICE = 'grpc.health.v1.Health';

export interface GrpcGatewayOptions extends CheckOptions, ListenerOptions {
  readonly pingEveryMs?: number;
}

/** The gRPC listener: Envoy's external authorization and the standard health service. */
export interface GrpcGateway {
  /** @returns the address it is bound to. @throws an error that names the network's error code. */
  listen(target: { readonly host: string; readonly port: number } | { readonly path: string }): Promise<string>;
  /** What `grpc.health.v1.Health` says from now on. */
  setServing(serving: boolean): void;
  /** Accepts no more, and resolves when what is under way is done. */
  close(): Promise<void>;
  /** Ends at once. */
  destroy(): void;
}

/** A method with one message for its request. It throws a {@link ProtobufError} where that is none. */
type Method = (request: Buffer, call: GrpcCall) => void;

/**
 * Listens for Envoy's `Check`, see {@link checker}, and for whoever asks after our health.
 *
 * This is gRPC over HTTP/2 as far as two services of few methods need it, on node:http2 alone: a library for all of gRPC took
 * three times as long for a call as Node for its frames.
 */
export function grpcGateway(options: GrpcGatewayOptions): GrpcGateway {
  const { onFault, now = () => performance.now(), pingEveryMs = PING_EVERY_MS } = options;
  const calls = underWay();
  const health = grpcHealth(['', AUTHORIZATION_SERVICE]);
  const methods = new Map<string | undefined, Method>([
    [`/${AUTHORIZATION_SERVICE}/Check`, checker(options, calls)],
    [`/${HEALTH_SERVICE}/Check`, health.check],
    [`/${HEALTH_SERVICE}/Watch`, health.watch],
    [`/${HEALTH_SERVICE}/List`, health.list],
  ]);
  const messages = messageReader();

  const listener = http2Listener((stream, headers, peer) => {
    const startMs = now();
    if (headers[':method'] !== 'POST') return refuseRequest(stream, 405);
    if (!isGrpc(headers['content-type'])) return refuseRequest(stream, 415);
    const method = methods.get(headers[':path']);
    if (method === undefined) return failCall(stream, STATUS.UNIMPLEMENTED, 'there is no such method');
    messages.read(stream, message => {
      try {
        method(message, { stream, headers, peer, startMs });
      } catch (error) {
        if (!(error instanceof ProtobufError)) onFault(error);
        failCall(stream, STATUS.INTERNAL, 'the message cannot be read');
      }
    });
  }, options);
  const pulse = setInterval(() => {
    listener.askWhoIsThere();
    messages.turn();
  }, pingEveryMs).unref();

  const destroy = (): void => {
    clearInterval(pulse);
    listener.destroy();
  };
  return {
    listen: target =>
      new Promise((resolve, reject) => {
        const { server } = listener;
        server.once('error', reject).listen(target, () => {
          server.off('error', reject);
          if ('path' in target) return resolve(`unix:${target.path}`);
          const { address, port } = server.address() as AddressInfo;
          return resolve(`${isIPv6(address) ? `[${address}]` : address}:${port}`);
        });
      }),
    setServing: health.setServing,
    async close() {
      const closed = listener.close();
      health.close();
      await Promise.race([closed, calls.settled()]);
      destroy();
    },
    destroy,
  };
}

/** Messages of other codecs (`application/grpc+json`) and other framings (`application/grpc-web`) are not read. */
function isGrpc(contentType: string | undefined): boolean {
  return contentType === 'application/grpc' || /^application\/grpc(\+proto)?( *;.*)?$/i.test(contentType ?? '');
}
