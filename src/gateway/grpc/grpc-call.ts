import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { HeldStream } from '../../limits/held-streams.ts';
import type { SharedConnection } from '../fair-turns.ts';

/** A pending wait for the message of a call. */
export interface MessageWait {
  /** Ends the wait and answers with what has been received of the request. */
  giveUp(): void;
}

/** A gRPC call and the memory that it holds. */
export class GrpcCall extends HeldStream {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  /** The address of the client; empty on a Unix socket. */
  readonly peer: string;
  /** When the call arrived, in milliseconds on the clock of the listener. */
  readonly startMs: number;
  readonly connection: SharedConnection;
  messageWait: MessageWait | undefined;
  /** Whether the call waits for a review. */
  isPending = false;
  /** How much of the call's message may be held without a reservation, in bytes. */
  unreservedBytes = 0;

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    peer: string,
    startMs: number,
    connection: SharedConnection,
  ) {
    super();
    this.connection = connection;
    this.stream = stream;
    this.headers = headers;
    this.peer = peer;
    this.startMs = startMs;
  }

  get hasBeenAllowed(): boolean {
    return this.connection.hasBeenAllowed;
  }

  giveUp(): void {
    if (this.messageWait !== undefined) this.messageWait.giveUp();
    // The call has been answered, but its client does not read the response.
    else this.stream.close(constants.NGHTTP2_CANCEL);
  }
}

/** The values of `google.rpc.Code` with which a call may fail. */
export const STATUS = {
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
} as const;

export type FailureStatus = (typeof STATUS)[keyof typeof STATUS];

// Constant lists: Node copies an object for each response, but not a list. The date is omitted,
// because no client of gatecar reads it.
const HEAD = [':status', '200', 'content-type', 'application/grpc'];
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false };
const TRAILERS_ONLY = { endStream: true, sendDate: false };
const OK = { 'grpc-status': '0' };

/**
 * Whether gatecar can still write to the stream. After the client has disconnected, every write to
 * the stream throws.
 */
export function isOpen(stream: ServerHttp2Stream): boolean {
  return !stream.destroyed && !stream.closed;
}

/**
 * Answers a call with one message.
 *
 * @param message a framed message, see `frame`.
 */
export function answerCall(stream: ServerHttp2Stream, message: Buffer): void {
  if (!isOpen(stream)) return;
  stream.respond(HEAD, WITH_TRAILERS);
  stream.on('wantTrailers', sendOk);
  stream.end(message);
}

function sendOk(this: ServerHttp2Stream): void {
  this.sendTrailers(OK);
}

/**
 * Ends a call with an error status.
 *
 * @param text for the operator of the client; printable ASCII.
 */
export function failCall(stream: ServerHttp2Stream, status: FailureStatus, text: string): void {
  end(stream, [
    ...HEAD,
    'grpc-status',
    String(status),
    'grpc-message',
    text.replaceAll('%', '%25'),
    ...(status === STATUS.UNIMPLEMENTED ? ['grpc-accept-encoding', 'identity'] : []),
  ]);
}

/** Rejects a request that is not a gRPC call. */
export function rejectRequest(stream: ServerHttp2Stream, status: 405 | 415): void {
  end(stream, [':status', String(status)]);
}

function end(stream: ServerHttp2Stream, headers: string[]): void {
  if (!isOpen(stream)) return;
  stream.respond(headers, TRAILERS_ONLY);
  // `NO_ERROR` asks the client to stop sending the rest of its request (RFC 9113 §8.1).
  if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
}
