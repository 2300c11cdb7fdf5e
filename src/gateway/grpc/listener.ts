import { type AddressInfo, isIPv6 } from 'node:net';
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

/** How often a connection is asked whether it is still there, and how long it may take to say so, in milliseconds. */
const PING_EVERY_MS = 10_000;

export const AUTHORIZATION_SERVICE = 'envoy.service.auth.v3.Authorization';
const HEALTH_SERVICE = 'grpc.health.v1.Health';

export interface GrpcListenerOptions extends CheckOptions, ListenerOptions, Omit<ConnectionIntakeOptions, 'protocol'> {
  /** For calls that are open, of all listeners together. */
  readonly requests: Budget;
  readonly pingEveryMs?: number;
  readonly clientTimeoutMs?: number;
}

/** The gRPC listener: Envoy's external authorization and the standard health service. */
export interface GrpcListener {
  /** @returns the address it is bound to. @throws an error that names the network's error code. */
  listen(target: { readonly host: string; readonly port: number } | { readonly path: string }): Promise<string>;
  /** What `grpc.health.v1.Health` says from now on. */
  setServing(serving: boolean): void;
  /** Accepts no more, and resolves when what is under way is done. */
  close(): Promise<void>;
  /** Ends at once. */
  destroy(): void;
}

/** How much of a call is held besides its message, in bytes: the stream itself, and for each byte of its headers. */
const STREAM_BYTES = 8 * 1024;
const HELD_PER_HEADER_BYTE = 2;

/** What is handled in a turn of the event loop: of connections without an allowed request, and with one. */
const PER_TURN: RequestLimits = { inAll: 16, perConnection: 8, ms: 1 };
const PER_TURN_OF_ALLOWED: RequestLimits = { inAll: 64, perConnection: 32, ms: 10 };

/**
 * How many streams every connection may have open in any case, and how long their messages may be, in bytes, so that no
 * flood by others keeps a request out. What they take is part of what a connection costs.
 */
const UNRESERVED_STREAMS = 2;
const UNRESERVED_MESSAGE_BYTES = 4 * 1024;

/** How long gatecar waits for the rest of a message, or for an answer to be read, in milliseconds. */
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

/** A method of a service. */
interface Method {
  handle(message: Buffer, call: GrpcCall): void;
  /** Answers a call whose message has not come. */
  fault(fault: MessageFault, call: GrpcCall): void;
}

/**
 * Listens for Envoy's `Check`, see {@link createCheckHandler}, and for the standard health service.
 *
 * This is gRPC over HTTP/2 as far as unary methods need it, on node:http2 alone. A gRPC library fails the call where gatecar
 * must deny, and buffers the messages that gatecar must limit.
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
      // From now on it counts as a request that waits for a review, with its stream.
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
              // No message is known that leads here. One that does must not end the process.
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
  const pulse = setInterval(() => {
    listener.pingSessions();
  }, pingEveryMs).unref();
  const sweep = setInterval(() => streams.expire(clientTimeoutMs), clientTimeoutMs / 10).unref();

  const destroy = (): void => {
    clearInterval(pulse);
    clearInterval(sweep);
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

/** Messages of other codecs (`application/grpc+json`) and other framings (`application/grpc-web`) are not read. */
function isGrpc(contentType: string | undefined): boolean {
  return contentType === 'application/grpc' || /^application\/grpc(\+proto)?( *;.*)?$/i.test(contentType ?? '');
}
