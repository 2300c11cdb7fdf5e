import { type AddressInfo, createServer, isIPv6, type Socket, type Server as TcpServer } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import {
  logVerbosity,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { HealthImplementation } from 'grpc-health-check';
import { type CheckOptions, checker, underWay } from './grpc-check.ts';
import { boundConnections, contextOptions, handshakeOptions, type ListenerOptions } from './listener.ts';

/** Larger than any request head; only a gateway that is told to send bodies along comes near (`with_request_body`). */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const MAX_CONCURRENT_STREAMS = 1024;

/** How often a connection is asked whether it is still there, and how long it may take to say so, in milliseconds. */
const PING_EVERY_MS = 10_000;

export const AUTHORIZATION_SERVICE = 'envoy.service.auth.v3.Authorization';

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

/** Listens for Envoy's `Check`, see {@link checker}, and for whoever asks after our health. */
export function grpcGateway(options: GrpcGatewayOptions): GrpcGateway {
  // It writes to standard error by itself; what counts reaches us as errors.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': MAX_CONCURRENT_STREAMS,
    // Who does not answer a ping is gone, or never was there: a connection that does not speak HTTP/2 has no other limit.
    'grpc.keepalive_time_ms': options.pingEveryMs ?? PING_EVERY_MS,
    'grpc.keepalive_timeout_ms': options.pingEveryMs ?? PING_EVERY_MS,
  });
  const calls = underWay();
  server.addService(authorizationService(), {
    Check: checker(options, calls),
  } as unknown as UntypedServiceImplementation);
  const health = new HealthImplementation({ '': 'NOT_SERVING', [AUTHORIZATION_SERVICE]: 'NOT_SERVING' });
  health.addToServer(server);
  const { listener, destroy } = listenerFor(server, options);

  return {
    listen: target =>
      new Promise((resolve, reject) => {
        listener.once('error', reject).listen(target, () => {
          listener.off('error', reject);
          if ('path' in target) return resolve(`unix:${target.path}`);
          const { address, port } = listener.address() as AddressInfo;
          return resolve(`${isIPv6(address) ? `[${address}]` : address}:${port}`);
        });
      }),
    setServing(serving) {
      for (const service of ['', AUTHORIZATION_SERVICE]) {
        health.setStatus(service, serving ? 'SERVING' : 'NOT_SERVING');
      }
    },
    async close() {
      const closed = new Promise<unknown>(resolve => listener.close(resolve));
      server.tryShutdown(() => {});
      await Promise.race([closed, calls.settled()]);
      destroy();
    },
    destroy,
  };
}

/**
 * Accepts connections, and does their handshakes, by itself: the library's own listener has no bound on their number, and
 * its ways to replace a certificate leave ciphers and versions to defaults.
 */
function listenerFor(server: Server, options: GrpcGatewayOptions) {
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = accept(options, socket => {
    // What becomes of a connection is HTTP/2's to say; nobody hears of an error after that.
    socket.on('error', () => {});
    injector.injectConnection(socket);
  });
  boundConnections(listener, options);
  // Among them are those that have not come to speak HTTP/2, of which the library knows nothing.
  const sockets = new Set<Socket>();
  listener.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const destroy = (): void => {
    listener.close();
    server.forceShutdown();
    for (const socket of sockets) socket.destroy();
  };
  return { listener, destroy };
}

function accept({ tls, handshakeTimeoutMs }: ListenerOptions, take: (socket: Socket) => void): TcpServer {
  if (tls === undefined) return createServer(take);
  const shown = { ...handshakeOptions(tls, handshakeTimeoutMs), ...contextOptions(tls.material) };
  const listener = createTlsServer({ ...shown, ALPNProtocols: ['h2'] }, take);
  tls.onReplaced(material => listener.setSecureContext(contextOptions(material)));
  return listener.on('tlsClientError', (_error, socket) => socket.destroy());
}

function authorizationService(): ServiceDefinition {
  const loaded = loadSync(join(import.meta.dirname, 'ext-authz.proto'), {
    keepCase: true,
    longs: Number,
    enums: Number,
  });
  return loaded[AUTHORIZATION_SERVICE] as ServiceDefinition;
}
