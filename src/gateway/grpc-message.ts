import type { ServerHttp2Stream } from 'node:http2';
import { Assembly, type Fault, PREFIX_BYTES } from './grpc-assembly.ts';
import { failCall, STATUS } from './grpc-call.ts';

/** How much is held of messages that come in pieces, in all. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;

const TOO_MUCH: Fault = [STATUS.RESOURCE_EXHAUSTED, 'too many unfinished messages'];
const LATE: Fault = [STATUS.DEADLINE_EXCEEDED, 'the message did not come in time'];

/** @returns a message as it is sent (`Length-Prefixed-Message` of gRPC over HTTP/2). @param message bytes, one a character. */
export function frame(message: string): Buffer {
  // Of its own, since it may be kept for long: a small one would be part of something larger.
  const bytes = Buffer.allocUnsafeSlow(PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.write(message, PREFIX_BYTES, 'latin1');
  return bytes;
}

/** Reads the messages of calls that have one. */
export interface MessageReader {
  /**
   * Calls `done` with the message once the whole of it has come, and nothing else; its bytes are to be copied if they are
   * kept. Else the call fails.
   */
  read(stream: ServerHttp2Stream, done: (message: Buffer) => void): void;
  /** Ends the calls that were begun before the last turn, and whose message has still not come. */
  turn(): void;
}

/** Not among the calls that were begun. */
const NOWHERE = -1;

/** What all calls of one reader share. */
class Desk {
  /** How many turns there were. */
  turns = 0;
  readonly #maxHeldBytes: number;
  #heldBytes = 0;
  // Never shortened, its places are emptied where they stand: a set leaves its tables behind, see StreamTable.
  readonly #begun: (Incoming | undefined)[] = [];
  #size = 0;
  #whole: Incoming[] = [];
  readonly #holdWhole = (): void => {
    const those = this.#whole;
    this.#whole = [];
    for (const incoming of those) incoming.hold();
  };

  constructor(maxHeldBytes: number) {
    this.#maxHeldBytes = maxHeldBytes;
  }

  begin(incoming: Incoming): void {
    incoming.at = this.#size;
    this.#begun[this.#size] = incoming;
    this.#size += 1;
  }

  end(incoming: Incoming): void {
    const { at } = incoming;
    if (at === NOWHERE) return;
    incoming.at = NOWHERE;
    this.#size -= 1;
    const last = this.#begun[this.#size] as Incoming;
    this.#begun[this.#size] = undefined;
    if (last === incoming) return;
    this.#begun[at] = last;
    last.at = at;
  }

  /** The end of a stream nearly always comes with the last of its message. Where it does not, it may be long in coming. */
  holdSoon(incoming: Incoming): void {
    if (this.#whole.push(incoming) === 1) setImmediate(this.#holdWhole);
  }

  /** @returns whether there was room for so many bytes more. */
  hold(bytes: number): boolean {
    this.#heldBytes += bytes;
    return this.#heldBytes <= this.#maxHeldBytes;
  }

  turn(): void {
    for (const incoming of this.#begun.slice(0, this.#size) as Incoming[]) {
      if (incoming.turn === this.turns) continue;
      this.end(incoming);
      failCall(incoming.stream, ...LATE);
    }
    this.turns += 1;
  }
}

/** A call whose message comes: an object with methods and three closures, which are all that stays on its stream. */
class Incoming {
  /** Its place among those that were begun. */
  at = NOWHERE;
  /** Which it was begun in. */
  readonly turn: number;
  readonly stream: ServerHttp2Stream;
  readonly #desk: Desk;
  readonly #assembly = new Assembly();
  #done: ((message: Buffer) => void) | undefined;
  readonly #add = (piece: Buffer): void => this.add(piece);
  readonly #end = (): void => this.end();
  readonly #close = (): void => this.close();

  constructor(desk: Desk, stream: ServerHttp2Stream, done: (message: Buffer) => void) {
    this.#desk = desk;
    this.stream = stream;
    this.turn = desk.turns;
    this.#done = done;
    desk.begin(this);
    stream.on('data', this.#add).on('end', this.#end).on('close', this.#close);
  }

  hold(): void {
    // What would be held now is counted off by nobody.
    if (this.stream.destroyed) return;
    const before = this.#assembly.held;
    this.#assembly.hold();
    this.#settle(before, undefined);
  }

  add(piece: Buffer): void {
    const assembly = this.#assembly;
    const before = assembly.held;
    this.#settle(before, assembly.add(piece));
    if (assembly.held === 0) this.#desk.holdSoon(this);
  }

  end(): void {
    this.#desk.end(this);
    const message = this.#assembly.take();
    const tell = this.#done as (message: Buffer) => void;
    this.#done = undefined;
    if (Buffer.isBuffer(message)) tell(message);
    else failCall(this.stream, ...message);
  }

  /** Of a call that is reset, or whose connection breaks, there comes no end. */
  close(): void {
    this.#desk.end(this);
    this.#desk.hold(-this.#assembly.held);
    this.#assembly.take();
    this.#done = undefined;
  }

  #settle(before: number, found: Fault | undefined): void {
    const { stream } = this;
    const assembly = this.#assembly;
    let fault = found;
    if (assembly.held !== before && !this.#desk.hold(assembly.held - before)) fault ??= TOO_MUCH;
    if (fault === undefined) return;
    stream.off('data', this.#add).off('end', this.#end).resume();
    assembly.take();
    failCall(stream, ...fault);
  }
}

/**
 * What hangs on the listeners of a stream is let go once it has been used: the stream itself may be there until a full collection
 * of garbage, and what hangs on it would make that twice as frequent.
 *
 * @param maxHeldBytes of messages that come in pieces, in all.
 */
export function messageReader(maxHeldBytes: number = MAX_HELD_BYTES): MessageReader {
  const desk = new Desk(maxHeldBytes);
  return {
    read(stream, done) {
      new Incoming(desk, stream, done);
    },
    turn: () => desk.turn(),
  };
}
