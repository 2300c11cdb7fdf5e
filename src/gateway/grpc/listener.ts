import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Deny, Unavailable } from '../../decision/decision.ts';
import type { Budget } from '../../limits/budget.ts';
import {
  CHECKS_PER_TURN,
  CHECKS_PER_TURN_OF_ALLOWED,
  GRPC_CLIENT_TIMEOUT_MS,
  GRPC_HELD_PER_HEADER_BYTE,
  GRPC_PING_EVERY_MS,
  GRPC_STREAM_BYTES,
  UNRESERVED_MESSAGE_BYTES,
  UNRESERVED_STREAMS_PER_CONNECTION,
} from '../../limits/constants.ts';
import { HeldStreams } from '../../limits/held-streams.ts';
import { type BindTarget, bindServer } from '../../system/bind-server.ts';
import { repeat } from '../../system/repeat.ts';
import type { ListenerOptions } from '../../tls/listener-options.ts';
import type { ConnectionIntakeOptions } from '../connection-intake.ts';
import { OVERLOADED } from '../decision-event.ts';
import { FairTurns, type ReadyRequest, turnsByAllowance } from '../fair-turns.ts';
import { type CheckOptions, createCheckHandler, UNREADABLE } from './check-handler.ts';
import { LATE } from './deadline.ts';
import { type FailureStatus, failCall, GrpcCall, isOpen, rejectRequest, STATUS } from './grpc-call.ts';
import { type GrpcHealth, grpcHealth } from './health-service.ts';
import { http2Listener, type IncomingStream, type StreamHandler } from './http2-listener.ts';
import { type InFlightCounter, inFlightCounter } from './in-flight.ts';
import type { MessageFault } from './message/message-assembly.ts';
import { readMessage } from './message/message-reader.ts';

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
  listen(target: BindTarget): Promise<string>;
  /** Sets the status that `grpc.health.v1.Health` reports. */
  setServing(serving: boolean): void;
  /** Stops accepting calls, and resolves when the calls in flight are done. */
  close(): Promise<void>;
  /** Closes every connection immediately. */
  destroy(): void;
}

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
  const { onFault, requests, now = () => performance.now(), pingEveryMs = GRPC_PING_EVERY_MS } = options;
  const { clientTimeoutMs = GRPC_CLIENT_TIMEOUT_MS } = options;
  const calls = inFlightCounter();
  const health = grpcHealth(['', AUTHORIZATION_SERVICE]);
  const streams = new HeldStreams(requests, now);
  const turnsOf = turnsByAllowance(new FairTurns(CHECKS_PER_TURN), new FairTurns(CHECKS_PER_TURN_OF_ALLOWED));
  const schedule = (call: GrpcCall, request: ReadyRequest): void =>
    turnsOf(call.connection).add(call.connection, request);
  const methods = new Map<string | undefined, Method>([
    checkMethod(options, calls, streams, schedule),
    ...healthMethods(health, streams),
  ]);

  const accept: StreamHandler = request => {
    const { stream, headers, peer, connection } = request;
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
    if (!reserve(call, request, streams)) {
      stream.resume();
      return method.fault('no_room', call);
    }
    readMessage(call, streams, message => {
      if (typeof message === 'string') method.fault(message, call);
      else schedule(call, new ReadyCall(method, message, call, onFault));
    });
  };
  const listener = http2Listener(accept, { ...options, isTrusted: peer => options.trusted.has(peer) });
  const stopPings = repeat(pingEveryMs, () => listener.pingSessions());
  const stopSweeps = repeat(clientTimeoutMs / 10, async () => {
    while (streams.expire(clientTimeoutMs)) await nextTurn();
  });

  const destroy = (): void => {
    stopPings();
    stopSweeps();
    listener.destroy();
  };
  return {
    listen: target => bindServer(listener.server, target),
    setServing: health.setServing,
    async close() {
      const closed = listener.close();
      await Promise.race([closed, calls.idle()]);
      destroy();
    },
    destroy,
  };
}

function checkMethod(
  options: CheckOptions,
  calls: InFlightCounter,
  streams: HeldStreams,
  schedule: (call: GrpcCall, check: ReadyRequest) => void,
): [path: string, Method] {
  const checks = createCheckHandler(options, calls, {
    onPending(call) {
      // The budget for requests that wait for a review now includes the call and its stream.
      streams.release(call);
      call.isPending = true;
      call.connection.pending += 1;
      call.connection.onChange();
    },
    onDecided: schedule,
    onAnswered(call, decision) {
      if (decision.kind === 'allow') call.connection.hasBeenAllowed = true;
      endWait(call);
      if (isOpen(call.stream)) streams.waitsForReader(call, GRPC_STREAM_BYTES);
    },
  });
  return [
    `/${AUTHORIZATION_SERVICE}/Check`,
    { handle: checks.check, fault: (fault, call) => checks.answer(call, FAULT_DECISIONS[fault]) },
  ];
}

function healthMethods(health: GrpcHealth, streams: HeldStreams): [path: string, Method][] {
  const method = (handle: Method['handle']): Method => ({
    fault: (fault, { stream }) => failCall(stream, ...FAULT_STATUS[fault]),
    handle(message, call) {
      handle(message, call);
      if (isOpen(call.stream)) streams.waitsForReader(call, GRPC_STREAM_BYTES);
    },
  });
  return [
    [`/${HEALTH_SERVICE}/Check`, method(health.check)],
    [`/${HEALTH_SERVICE}/List`, method(health.list)],
  ];
}

/** Reserves the memory of a call. @returns false if the call must be rejected. */
function reserve(call: GrpcCall, { rawHeaders, connection }: IncomingStream, streams: HeldStreams): boolean {
  const headerBytes = rawHeaders.reduce((bytes, text) => bytes + text.length, 0);
  if (streams.hold(call, GRPC_STREAM_BYTES + GRPC_HELD_PER_HEADER_BYTE * headerBytes)) return true;
  if (connection.open > UNRESERVED_STREAMS_PER_CONNECTION) return false;
  call.unreservedBytes = UNRESERVED_MESSAGE_BYTES;
  return true;
}

/** Records that a call no longer waits for a review. */
function endWait(call: GrpcCall): void {
  if (call.isPending) call.connection.pending -= 1;
  call.isPending = false;
  call.connection.onChange();
}

/** A call whose message has been received. */
class ReadyCall implements ReadyRequest {
  readonly #method: Method;
  #message: Buffer;
  readonly #call: GrpcCall;
  readonly #onFault: CheckOptions['onFault'];

  constructor(method: Method, message: Buffer, call: GrpcCall, onFault: CheckOptions['onFault']) {
    this.#method = method;
    this.#message = message;
    this.#call = call;
    this.#onFault = onFault;
  }

  handle(): void {
    if (!isOpen(this.#call.stream)) return;
    try {
      this.#method.handle(this.#message, this.#call);
      // No known message leads here. A message that does must not end the process.
      /* c8 ignore next 4 */
    } catch (error) {
      this.#onFault(error);
      this.#method.fault('undecodable', this.#call);
    }
  }

  keep(): void {
    this.#message = Buffer.from(this.#message);
  }
}

/**
 * Whether gatecar can read the content type. It does not read other codecs
 * (`application/grpc+json`) or framings (`application/grpc-web`).
 */
function isGrpc(contentType: string | undefined): boolean {
  return contentType === 'application/grpc' || /^application\/grpc(\+proto)?( *;.*)?$/i.test(contentType ?? '');
}
