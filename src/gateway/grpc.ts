import { join } from 'node:path';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { HealthImplementation } from 'grpc-health-check';
import type { Authorize } from '../authorize.ts';
import { type Credential, readCredential } from '../credential/bearer.ts';
import type { Decision, Unavailable } from '../decision/decision.ts';
import { type Answer, headerPairs } from './answer.ts';
import { type Decided, INTERNAL_ERROR } from './decided.ts';
import { type CheckRequest, type CheckResponse, checkResponse, requestHeaders } from './ext-authz.ts';
import { type Forwarded, type ForwardedOptions, readForwarded } from './forwarded.ts';

/** Larger than any request head; only a gateway that is told to send bodies along comes near (`with_request_body`). */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const MAX_CONCURRENT_STREAMS = 1024;

/** How long before a gateway's deadline it is answered, in milliseconds. */
const DEADLINE_MARGIN_MS = 20;

export const AUTHORIZATION_SERVICE = 'envoy.service.auth.v3.Authorization';

export interface GrpcGatewayOptions extends ForwardedOptions {
  readonly authorize: Authorize;
  readonly answer: (decision: Decision) => Answer;
  readonly onDecision?: (decided: Decided) => void;
  /** Told of an error nobody foresaw; the request has been answered as unavailable. */
  readonly onFault: (error: unknown) => void;
  readonly now?: () => number;
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

const LATE: Unavailable = {
  kind: 'unavailable',
  reason: 'authority_unavailable',
  cause: 'timeout',
  retryAfterSeconds: 1,
};

type Call = ServerUnaryCall<CheckRequest, CheckResponse>;

/**
 * Answers `Check` as the HTTP listener answers `/auth`. It never fails as an RPC, which a gateway may take as leave to
 * fail open: our own faults, and a deadline that is about to pass, are answered as a denial with status `UNAVAILABLE`.
 */
export function grpcGateway(options: GrpcGatewayOptions): GrpcGateway {
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': MAX_CONCURRENT_STREAMS,
  });
  server.addService(authorizationService(), { Check: checker(options) } as unknown as UntypedServiceImplementation);
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
    close: () => new Promise(resolve => server.tryShutdown(() => resolve())),
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

function checker(options: GrpcGatewayOptions): (call: Call, callback: sendUnaryData<CheckResponse>) => void {
  const { authorize, answer: render, onDecision, onFault, now = () => performance.now() } = options;

  return (call, callback) => {
    const start = now();
    const http = call.request.attributes?.request?.http;
    const headers = requestHeaders(http);
    const credential = readCredential(headers);
    let peer = 'unknown';
    let answered = false;

    const finish = (decision: Decision): void => {
      if (answered) return;
      answered = true;
      const answer = render(decision);
      callback(null, checkResponse(answer));
      onDecision?.({
        protocol: 'grpc',
        decision,
        answer,
        credential,
        durationMs: now() - start,
        forwarded: () => forwardedIn(peer, call.request, headers, credential, options),
      });
    };
    const fail = (error: unknown): void => {
      onFault(error);
      finish(INTERNAL_ERROR);
    };

    try {
      // Read now: a connection that has been closed has no address, and would pass for a Unix socket's.
      peer = peerAddress(call.getPeer());
      const decision = authorize(credential);
      if (decision instanceof Promise) beforeDeadline(call, decision).then(finish).catch(fail);
      else finish(decision);
    } catch (error) {
      fail(error);
    }
  };
}

/** The decision, or that it came too late for this gateway, while it can still be told. The review itself goes on. */
async function beforeDeadline(call: Call, decision: Promise<Decision>): Promise<Decision> {
  const left = Number(call.getDeadline()) - Date.now() - DEADLINE_MARGIN_MS;
  if (!Number.isFinite(left)) return decision;
  const { promise: late, resolve } = Promise.withResolvers<Decision>();
  const timer = setTimeout(() => resolve(LATE), Math.max(left, 0));
  try {
    return await Promise.race([decision, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What Envoy says about the request: the attributes, which it fills itself, before any header. */
function forwardedIn(
  peer: string,
  { attributes }: CheckRequest,
  headers: readonly string[],
  credential: Credential,
  options: ForwardedOptions,
): Forwarded {
  const { source, request } = attributes ?? {};
  const named: Record<string, string> = {};
  for (const [name, value] of headerPairs(headers)) named[name.toLowerCase()] = value;
  const { id, method, path } = request?.http ?? {};
  if (id) named['x-request-id'] ??= id;
  if (method) named['x-original-method'] = method;
  if (path) named['x-original-uri'] = path;
  const said = readForwarded(peer, named, credential, options);
  const client = source?.address?.socket_address?.address;
  const isTrusted = options.trusted.has(peer);
  return isTrusted && options.clientIpHeader === undefined && client ? { ...said, clientAddress: client } : said;
}

/** `127.0.0.1:4711` and `::1:4711` → the address alone; the library says `unknown` for a Unix socket. */
function peerAddress(peer: string): string {
  return peer === 'unknown' ? '' : peer.slice(0, peer.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
