import type { HeldStreams } from '../limits/held-streams.ts';
import { Assembly, type MessageFault, PREFIX_BYTES } from './grpc-assembly.ts';
import type { GrpcCall, MessageWait } from './grpc-call.ts';

/** @returns a message as it is sent (`Length-Prefixed-Message` of gRPC over HTTP/2). @param message bytes, one a character. */
export function frame(message: string): Buffer {
  // Of its own, since it may be kept for long: a small one would be part of something larger.
  const bytes = Buffer.allocUnsafeSlow(PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.write(message, PREFIX_BYTES, 'latin1');
  return bytes;
}

/** What becomes of the message of a call. One of the two is called, once, unless the call ends before. */
export interface MessageHandler {
  /** The message has come, or all of it but the body. Its bytes are to be copied if they are kept. */
  message(bytes: Buffer, call: GrpcCall): void;
  fault(fault: MessageFault, call: GrpcCall): void;
}

/** Reads the messages of calls that have one. */
export class MessageReader {
  readonly #streams: HeldStreams;
  #whole: Incoming[] = [];

  constructor(streams: HeldStreams) {
    this.#streams = streams;
  }

  /** Reads the message of a call. From its end on, gatecar does not wait for the client any more. */
  read(call: GrpcCall, handler: MessageHandler): void {
    new Incoming(call, handler, this);
  }

  get streams(): HeldStreams {
    return this.#streams;
  }

  /** The end of a stream nearly always comes with the last of its message. If not, it may be long in coming. */
  holdSoon(incoming: Incoming): void {
    if (this.#whole.push(incoming) === 1) setImmediate(this.#holdWhole);
  }

  readonly #holdWhole = (): void => {
    const whole = this.#whole;
    this.#whole = [];
    for (const incoming of whole) incoming.hold();
  };
}

/** A call whose message comes. What hangs on the listeners of a stream is let go once it has been used. */
class Incoming implements MessageWait {
  readonly #call: GrpcCall;
  readonly #reader: MessageReader;
  readonly #assembly = new Assembly();
  #handler: MessageHandler | undefined;
  readonly #add = (piece: Buffer): void => this.add(piece);
  readonly #end = (): void => this.end();

  constructor(call: GrpcCall, handler: MessageHandler, reader: MessageReader) {
    this.#call = call;
    this.#handler = handler;
    this.#reader = reader;
    call.messageWait = this;
    reader.streams.waits(call);
    call.stream.on('data', this.#add).on('end', this.#end);
  }

  /** The client has been waited for long enough, or others need the room. */
  giveUp(): void {
    const head = this.#assembly.takeHead();
    this.#finish(head ?? 'late');
  }

  hold(): void {
    // What would be held now is not released any more.
    if (this.#handler === undefined || this.#call.stream.destroyed) return;
    const before = this.#assembly.held;
    this.#assembly.hold();
    this.#settle(before, undefined);
  }

  add(piece: Buffer): void {
    const assembly = this.#assembly;
    const before = assembly.held;
    this.#settle(before, assembly.add(piece));
    if (assembly.held === 0) this.#reader.holdSoon(this);
  }

  end(): void {
    this.#finish(this.#assembly.take());
  }

  #settle(before: number, fault: MessageFault | undefined): void {
    const { held } = this.#assembly;
    const more = held - before;
    if (fault !== undefined) this.#finish(fault);
    else if (more !== 0 && held > this.#call.unreservedBytes && !this.#reader.streams.hold(this.#call, more))
      this.#finish('no_room');
  }

  #finish(message: Buffer | MessageFault): void {
    const handler = this.#handler as MessageHandler;
    this.#handler = undefined;
    const call = this.#call;
    call.messageWait = undefined;
    this.#reader.streams.waitsNoMore(call);
    // What still comes is dropped as it comes.
    call.stream.off('data', this.#add).off('end', this.#end).resume();
    this.#assembly.take();
    if (Buffer.isBuffer(message)) handler.message(message, call);
    else handler.fault(message, call);
  }
}
