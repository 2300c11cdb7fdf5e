import type { Socket } from 'node:net';
import { Duplex, type DuplexOptions } from 'node:stream';
import type { WriteBatch } from './write-batch.ts';

/**
 * A stream between a socket and one of Node's own servers, which accept any `Duplex`. Written data
 * goes to the socket. Subclasses decide which of the socket's bytes they pass to the server, and
 * when.
 */
export abstract class PacedConnection extends Duplex {
  readonly socket: Socket;
  readonly remoteAddress: string | undefined;
  readonly #writes: WriteBatch | undefined;
  #writeDone: (() => void) | undefined;

  /** @param writes delays what is written to the end of the event-loop iteration. */
  constructor(socket: Socket, options?: DuplexOptions, writes?: WriteBatch) {
    super(options);
    this.#writes = writes;
    this.socket = socket;
    this.remoteAddress = socket.remoteAddress;
    socket
      .on('data', (chunk: Buffer) => this.receive(chunk))
      .on('drain', () => this.#drained())
      .once('end', () => this.endInput())
      .once('close', () => this.destroy())
      .on('error', error => this.destroy(error));
  }

  /** Closes the socket after all written data has been sent. */
  destroySoon(): void {
    this.#writes?.flush();
    this.socket.destroySoon();
  }

  /** Called with each chunk that is read from the socket. */
  protected abstract receive(chunk: Buffer): void;

  /** Called when the client has ended its side of the connection. */
  protected abstract endInput(): void;

  /** Called when the socket's write buffer is full because the client does not read. */
  protected writeBlocked(): void {}

  override _read(): void {}

  override _write(chunk: string | Buffer, encoding: BufferEncoding, callback: () => void): void {
    if (this.#writes === undefined) {
      this.#send(chunk, encoding, callback);
      return;
    }
    this.#writes.add(() => {
      if (!this.socket.destroyed) this.#send(chunk, encoding, callback);
    });
  }

  #send(chunk: string | Buffer, encoding: BufferEncoding, callback: () => void): void {
    if (this.socket.write(chunk, encoding)) {
      callback();
      return;
    }
    this.#writeDone = callback;
    this.writeBlocked();
  }

  override _final(callback: () => void): void {
    this.socket.end(callback);
  }

  #drained(): void {
    const done = this.#writeDone;
    this.#writeDone = undefined;
    done?.();
  }
}
