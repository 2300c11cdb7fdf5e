import type { HeldStreams } from '../../../limits/held-streams.ts';
import type { GrpcCall, MessageWait } from '../grpc-call.ts';
import { Assembly, type MessageFault, PREFIX_BYTES } from './message-assembly.ts';

/** @returns a message as it is sent (`Length-Prefixed-Message` of gRPC over HTTP/2). @param message bytes, one a character. */
export function frame(message: string): Buffer {
  // Of its own, since it may be kept for long: a small one would be part of something larger.
  const bytes = Buffer.allocUnsafeSlow(PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.write(message, PREFIX_BYTES, 'latin1');
  return bytes;
}

/**
 * Reads the message of a call. When it has come, gatecar does not wait for the client any more.
 *
 * @param streams in which the call reserves what is kept of its message.
 * @param done called once, unless the call ends before: with the message (all of it, or all but the body), or with the
 *   reason why there is none. The bytes must be copied if they are kept.
 */
export function readMessage(call: GrpcCall, streams: HeldStreams, done: MessageHandler): void {
  new PendingMessage(call, streams, done);
}

export type MessageHandler = (message: Buffer | MessageFault) => void;

/** A message that is being received. It drops its references when it is done, since the stream keeps its listeners. */
class PendingMessage implements MessageWait {
  readonly #call: GrpcCall;
  readonly #streams: HeldStreams;
  readonly #assembly = new Assembly();
  #done: MessageHandler | undefined;
  readonly #add = (piece: Buffer): void => this.add(piece);
  readonly #end = (): void => this.#finish(this.#assembly.take());

  constructor(call: GrpcCall, streams: HeldStreams, done: MessageHandler) {
    this.#call = call;
    this.#streams = streams;
    this.#done = done;
    call.messageWait = this;
    streams.waits(call);
    call.stream.on('data', this.#add).on('end', this.#end);
  }

  /** The client has been waited for long enough, or other calls need the room. */
  giveUp(): void {
    this.#finish(this.#assembly.takeHead() ?? 'late');
  }

  add(piece: Buffer): void {
    const before = this.#assembly.held;
    const fault = this.#assembly.add(piece);
    this.#reserve(before, fault);
    // The end of a stream nearly always comes with the last of its message. If not, it may be long in coming.
    if (this.#assembly.held === 0) setImmediate(() => this.#hold());
  }

  #hold(): void {
    // What would be held now is not released any more.
    if (this.#done === undefined || this.#call.stream.destroyed) return;
    const before = this.#assembly.held;
    this.#assembly.hold();
    this.#reserve(before, undefined);
  }

  #reserve(before: number, fault: MessageFault | undefined): void {
    const { held } = this.#assembly;
    const more = held - before;
    if (fault !== undefined) this.#finish(fault);
    else if (more !== 0 && held > this.#call.unreservedBytes && !this.#streams.hold(this.#call, more)) {
      this.#finish('no_room');
    }
  }

  #finish(message: Buffer | MessageFault): void {
    const done = this.#done as MessageHandler;
    this.#done = undefined;
    const call = this.#call;
    call.messageWait = undefined;
    this.#streams.waitsNoMore(call);
    // Later data is dropped as it comes.
    call.stream.off('data', this.#add).off('end', this.#end).resume();
    this.#assembly.take();
    done(message);
  }
}
