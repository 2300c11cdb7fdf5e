import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { HeldStream } from '../../limits/held-streams.ts';
import type { SharedConnection } from '../fair-turns.ts';

/** Waits for the message of a call. */
export interface MessageWait {
  /** Answers with what is known of the request. */
  giveUp(): void;
}

/** One call, as it came. */
export class GrpcCall extends HeldStream {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  /** The address of the client; empty on a Unix socket. */
  readonly peer: string;
  /** When it came, on the clock of the listener. */
  readonly startMs: number;
  readonly connection: SharedConnection;
  messageWait: MessageWait | undefined;
  /** Whether it waits for a review. */
  isPending = false;
  /** How much of its message may be held without a reservation, in bytes. */
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
    // It has been answered, and its client does not read.
    else this.stream.close(constants.NGHTTP2_CANCEL);
  }
}

/** What a call may end with, of `google.rpc.Code`. */
export const STATUS = {
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
} as const;

export type FailureStatus = (typeof STATUS)[keyof typeof STATUS];

// Lists that never change: Node neither copies them, as it does an object, nor adds a date, which no client of ours reads.
const HEAD = [':status', '200', 'content-type', 'application/grpc'];
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false };
const TRAILERS_ONLY = { endStream: true, sendDate: false };
const OK = { 'grpc-status': '0' };

/** Whether anything can still be said on it. Who has gone leaves a stream that throws at every word. */
export function isOpen(stream: ServerHttp2Stream): boolean {
  return !stream.destroyed && !stream.closed;
}

/** Answers a call with one message. @param message as it is sent, see `frame`. */
export function answerCall(stream: ServerHttp2Stream, message: Buffer): void {
  if (!isOpen(stream)) return;
  stream.respond(HEAD, WITH_TRAILERS);
  stream.on('wantTrailers', sendOk);
  stream.end(message);
}

function sendOk(this: ServerHttp2Stream): void {
  this.sendTrailers(OK);
}

/** Ends a call that has no answer. @param text for whoever runs the client: printable ASCII. */
export function failCall(stream: ServerHttp2Stream, status: FailureStatus, text: string): void {
  end(stream, [
    ...[...HEAD, 'grpc-status', String(status), 'grpc-message', text.replaceAll('%', '%25')],
    ...(status === STATUS.UNIMPLEMENTED ? ['grpc-accept-encoding', 'identity'] : []),
  ]);
}

/** Ends what is no gRPC. */
export function rejectRequest(stream: ServerHttp2Stream, status: 405 | 415): void {
  end(stream, [':status', String(status)]);
}

function end(stream: ServerHttp2Stream, headers: string[]): void {
  if (!isOpen(stream)) return;
  stream.respond(headers, TRAILERS_ONLY);
  // What else it sends, nobody wants (RFC 9113 §8.1).
  if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
}
