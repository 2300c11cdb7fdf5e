import { type AddressInfo, isIPv6 } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Deny, Unavailable } from '../../decision/decision.ts';
import type { Budget } from '../../limits/budget.ts';
import { HeldStreams } from '../../limits/held-streams.ts';
import type { ListenerOptions } from '../../tls/listener-options.ts';
import type { ConnectionIntakeOptions } from '../connection-intake.ts';
import { OVERLOADED } from '../decision-event.ts';
import { FairTurns, type RequestLimits, type SharedConnection } from '../fair-turns.ts';
import { type CheckOptions, createCheckHandler, UNREADABLE } from './check-handler.ts';
import { LATE } from './deadline.ts';
import { TURNS_OF_A_CALL } from './frame-turns.ts';
import { type FailureStatus, failCall, GrpcCall, isOpen, rejectRequest, STATUS } from './grpc-call.ts';
import { grpcHealth } from './health-service.ts';
import { http2Listener } from './http2-listener.ts';
import { inFlightCounter } from './in-flight.ts';
import type { MessageFault } from './message/message-assembly.ts';
import { readMessage } from './message/message-reader.ts';

/**
 * How often gatecar pings a connection, and how long the client may take to respond, in
 * milliseconds.
 */
const PING_EVERY_MS = 10_000;

export const AUTHORIZATION_SERVICE = 'envoy.service.auth.v3.Authorization';
const HEALTH_SERVICE = 'grpc.health.v1.Health';

export interface GrpcListenerOptions extends CheckOptions, ListenerOptions, Omit<ConnectionIntakeOptions, 'protocol'> {
  /** Budget for open calls, shared by all listeners. */
  readonly requests: Budget;
  readonly pingEveryMs?: number;
  readonly clientTimeoutMs?: number;
}

/** The gRPC listener: Envoy's external authorization and the standard health service. */
export interface GrpcListener {
  /**
   * Starts listening.
   *
   * @returns the bound address.
   * @throws an error that contains the network's error code.
   */
  listen(target: { readonly host: string; readonly port: number } | { readonly path: string }): Promise<string>;
  /** Sets the status that `grpc.health.v1.Health` reports. */
  setServing(serving: boolean): void;
  /** Stops accepting calls, and resolves when the calls in flight are done. */
  close(): Promise<void>;
  /** Closes every connection immediately. */
  destroy(): void;
}

/**
 * Estimated memory of a call, in bytes, in addition to its message: for the stream, and for each
 * byte of its headers.
 */
const STREAM_BYTES = 8 * 1024;
const HELD_PER_HEADER_BYTE = 2;

/**
 * Limits for one event-loop iteration: for connections without an allowed request, and for
 * connections with one.
 */
const PER_TURN: RequestLimits = { inAll: 16, perConnection: 8, ms: 1 };
const PER_TURN_OF_ALLOWED: RequestLimits = { inAll: 64, perConnection: 32, ms: 10 };

/**
 * Number of streams that every connection may have open without a reservation, and the maximum size
 * of their messages in bytes. A flood by other clients therefore keeps no request out. The memory
 * of these streams is part of the cost of a connection.
 */
const UNRESERVED_STREAMS = 2;
const UNRESERVED_MESSAGE_BYTES = 4 * 1024;

/**
 * How long gatecar waits for the rest of a message, or for the client to read a response, in
 * milliseconds.
 */
const CLIENT_TIMEOUT_MS = 10_000;

const FAULT_DECISIONS: Readonly<Record<MessageFault, Deny | Unavailable>> = {
  undecodable: UNREADABLE,
  late: LATE,
  no_room: OVERLOADED,
};

const FAULT_STATUS: Readonly<Record<MessageFault, readonly [status: FailureStatus, text: string]>> = {
  undecodable: [STATUS.INTERNAL, 'the message cannot be read'],
  late: [STATUS.DEADLINE_EXCEEDED, 'the message did not come in time'],
  no_room: [STATUS.RESOURCE_EXHAUSTED, 'too many calls'],
};

/** A method of a gRPC service. */
interface Method {
  handle(message: Buffer, call: GrpcCall): void;
  /** Answers a call whose message has not been received. */
  fault(fault: MessageFault, call: GrpcCall): void;
}

/**
 * Creates a listener for Envoy's `Check`, see {@link createCheckHandler}, and for the standard
 * health service.
 *
 * It implements gRPC over HTTP/2 directly on node:http2, as far as unary methods need it. A gRPC
 * library fails calls that gatecar must deny, and buffers messages that gatecar must limit.
 */
export function createGrpcListener(options: GrpcListenerOptions): GrpcListener {
  const { onFault, requests, now = () => performance.now(), pingEveryMs = PING_EVERY_MS } = options;
  const { clientTimeoutMs = CLIENT_TIMEOUT_MS } = options;
  const calls = inFlightCounter();
  const health = grpcHealth(['', AUTHORIZATION_SERVICE]);
  const streams = new HeldStreams(requests, now);
  const turns = new FairTurns(PER_TURN);
  const turnsOfAllowed = new FairTurns(PER_TURN_OF_ALLOWED);
  const turnsOf = ({ hasBeenAllowed }: SharedConnection): FairTurns => {
    if (!hasBeenAllowed) return turns;
    turns.shorten(TURNS_OF_A_CALL);
    return turnsOfAllowed;
  };
  const endWait = (call: GrpcCall): void => {
    if (call.isPending) call.connection.pending -= 1;
    call.isPending = false;
    call.connection.onChange();
  };
  const checks = createCheckHandler(options, calls, {
    onPending(call) {
      // The budget for requests that wait for a review now includes the call and its stream.
      streams.release(call);
      call.isPending = true;
      call.connection.pending += 1;
      call.connection.onChange();
    },
    onDecided: (call, check) => turnsOf(call.connection).add(call.connection, check),
    onAnswered(call, decision) {
      if (decision.kind === 'allow') call.connection.hasBeenAllowed = true;
      endWait(call);
      if (isOpen(call.stream)) streams.waitsForReader(call, STREAM_BYTES);
    },
  });

  const failHealth: Method['fault'] = (fault, { stream }) => failCall(stream, ...FAULT_STATUS[fault]);
  const healthMethod = (handle: Method['handle']): Method => ({
    fault: failHealth,
    handle(message, call) {
      handle(message, call);
      if (isOpen(call.stream)) streams.waitsForReader(call, STREAM_BYTES);
    },
  });
  const methods = new Map<string | undefined, Method>([
    [
      `/${AUTHORIZATION_SERVICE}/Check`,
      { handle: checks.check, fault: (fault, call) => checks.answer(call, FAULT_DECISIONS[fault]) },
    ],
    [`/${HEALTH_SERVICE}/Check`, healthMethod(health.check)],
    [`/${HEALTH_SERVICE}/List`, healthMethod(health.list)],
  ]);

  const listener = http2Listener(
    ({ stream, headers, rawHeaders, peer, connection }) => {
      const startMs = now();
      if (headers[':method'] !== 'POST') return rejectRequest(stream, 405);
      if (!isGrpc(headers['content-type'])) return rejectRequest(stream, 415);
      const method = methods.get(headers[':path']);
      if (method === undefined) return failCall(stream, STATUS.UNIMPLEMENTED, 'there is no such method');
      const call = new GrpcCall(stream, headers, peer, startMs, connection);
      stream.once('close', () => {
        streams.release(call);
        endWait(call);
      });
      const headerBytes = rawHeaders.reduce((bytes, text) => bytes + text.length, 0);
      const isReserved = streams.hold(call, STREAM_BYTES + HELD_PER_HEADER_BYTE * headerBytes);
      if (!isReserved) {
        if (connection.open > UNRESERVED_STREAMS) {
          stream.resume();
          return method.fault('no_room', call);
        }
        call.unreservedBytes = UNRESERVED_MESSAGE_BYTES;
      }
      readMessage(call, streams, message => {
        if (typeof message === 'string') return method.fault(message, call);
        let bytes = message;
        turnsOf(connection).add(connection, {
          handle() {
            if (!isOpen(stream)) return;
            try {
              method.handle(bytes, call);
              // No known message leads here. A message that does must not end the process.
              /* c8 ignore next 4 */
            } catch (error) {
              onFault(error);
              method.fault('undecodable', call);
            }
          },
          keep() {
            bytes = Buffer.from(bytes);
          },
        });
      });
    },
    { ...options, isTrusted: peer => options.trusted.has(peer) },
  );
  const pulse = setTimeout(async () => {
    await listener.pingSessions();
    pulse.refresh();
  }, pingEveryMs).unref();
  const sweep = setTimeout(async () => {
    while (streams.expire(clientTimeoutMs)) await nextTurn();
    sweep.refresh();
  }, clientTimeoutMs / 10).unref();

  const destroy = (): void => {
    clearTimeout(pulse);
    clearTimeout(sweep);
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
      await Promise.race([closed, calls.idle()]);
      destroy();
    },
    destroy,
  };
}

/**
 * Whether gatecar can read the content type. It does not read other codecs
 * (`application/grpc+json`) or framings (`application/grpc-web`).
 */
function isGrpc(contentType: string | undefined): boolean {
  return contentType === 'application/grpc' || /^application\/grpc(\+proto)?( *;.*)?$/i.test(contentType ?? '');
}
