import type { HeldStreams } from '../../../limits/held-streams.ts';
import type { GrpcCall, MessageWait } from '../grpc-call.ts';
import { Assembly, type MessageFault, PREFIX_BYTES } from './message-assembly.ts';

/**
 * Frames a message (`Length-Prefixed-Message` of gRPC over HTTP/2).
 *
 * @param message one character for each byte.
 */
export function frame(message: string): Buffer {
  // The buffer is not pooled, because it may be kept for long. A pooled buffer would keep its whole
  // pool in memory.
  const bytes = Buffer.allocUnsafeSlow(PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.write(message, PREFIX_BYTES, 'latin1');
  return bytes;
}

/**
 * Reads the message of a call. Once the message is complete, gatecar no longer waits for the
 * client.
 *
 * @param streams in which the call reserves what is kept of its message.
 * @param done called once with the message or with the reason why there is none, unless the call
 *   ends before. The message may lack its body. The callee must copy the bytes to keep them.
 */
export function readMessage(call: GrpcCall, streams: HeldStreams, done: MessageHandler): void {
  new PendingMessage(call, streams, done);
}

type MessageHandler = (message: Buffer | MessageFault) => void;

/**
 * A message that is being received. It drops its references when it is done, because the stream
 * keeps its listeners.
 */
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

  /** Called when the client has taken too long, or when other calls need the memory. */
  giveUp(): void {
    this.#finish(this.#assembly.takeHead() ?? 'late');
  }

  add(piece: Buffer): void {
    const before = this.#assembly.held;
    const fault = this.#assembly.add(piece);
    this.#reserve(before, fault);
    // The end of a stream nearly always arrives with the end of its message. If it does not, it can
    // take long, so the message is copied.
    if (this.#assembly.held === 0) setImmediate(() => this.#hold());
  }

  #hold(): void {
    // Bytes that are reserved from here on would never be released.
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
    // Later data is dropped as it arrives.
    call.stream.off('data', this.#add).off('end', this.#end).resume();
    this.#assembly.take();
    done(message);
  }
}
