import { join } from 'node:path';
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

/** Larger than any request head; only a gateway that is told to send bodies along comes near (`with_request_body`). */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const MAX_CONCURRENT_STREAMS = 1024;

/** How often a connection is asked whether it is still there, and how long it may take to say so, in milliseconds. */
const PING_EVERY_MS = 10_000;

export const AUTHORIZATION_SERVICE = 'envoy.service.auth.v3.Authorization';

export interface GrpcGatewayOptions extends CheckOptions {
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

  return {
    async listen(target) {
      const address = 'path' in target ? `unix:${target.path}` : `${bracketed(target.host)}:${target.port}`;
      const port = await new Promise<number>((resolve, reject) => {
        server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) =>
          error ? reject(error) : resolve(bound),
        );
      });
      return 'path' in target ? address : `${bracketed(target.host)}:${port}`;
    },
    setServing(serving) {
      for (const service of ['', AUTHORIZATION_SERVICE]) {
        health.setStatus(service, serving ? 'SERVING' : 'NOT_SERVING');
      }
    },
    async close() {
      const closed = new Promise<void>(resolve => server.tryShutdown(() => resolve()));
      await Promise.race([closed, calls.settled()]);
      server.forceShutdown();
    },
    destroy: () => server.forceShutdown(),
  };
}

function authorizationService(): ServiceDefinition {
  const loaded = loadSync(join(import.meta.dirname, 'ext-authz.proto'), {
    keepCase: true,
    longs: Number,
    enums: Number,
  });
  return loaded[AUTHORIZATION_SERVICE] as ServiceDefinition;
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
