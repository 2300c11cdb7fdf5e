import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Budget } from '../../limits/budget.ts';
import type { ConnectionPool, PooledConnection } from '../../limits/connection-pool.ts';
import { PacedConnection } from '../paced-connection.ts';
import type { TurnQueue } from '../turn-queue.ts';

const HEAD_END = Buffer.from('\r\n\r\n');

/** How many bytes of a body are given to the parser at once: a request hidden behind its end costs little then. */
const BODY_PIECE_BYTES = 1024;

/** How many pieces of one connection are read in one turn of the event loop. */
const MAX_PIECES_PER_TURN = 64;

/** What the parser holds for each byte of a head that is not complete. */
const HEAD_BYTE_COST = 2;

export interface HttpConnectionOptions {
  readonly pool: ConnectionPool;
  /** The pool's record of this connection. */
  readonly pooled: PooledConnection;
  /** For heads that are not complete and requests that have not been read. */
  readonly requests: Budget;
  /** Longest head, in bytes. */
  readonly maxHeadBytes: number;
  /** The turns in which the next requests of connections are read. */
  readonly turns: TurnQueue;
  readonly now: () => number;
  /** The status of answers that a client without a valid credential does not get. */
  readonly allowedStatus?: number | undefined;
}

/**
 * A connection between the network and Node's HTTP server.
 *
 * Node gives all that it reads at once (64 KiB, over a thousand requests) to its parser. This class gives it one request
 * at a time: the next one only after the answer to the last has been written, and in another turn of the event loop. A
 * client that pipelines thus gets the same share of the event loop as one that does not, at most one request of a
 * connection waits for a decision, and at most one answer waits to be read.
 */
export class HttpConnection extends PacedConnection {
  readonly #options: HttpConnectionOptions;
  readonly #pooled: PooledConnection;
  /** Read from the network and not yet given to the parser. A part of a chunk keeps all of it in memory. */
  #unread: Buffer | undefined;
  #chunkBytes = 0;
  #partialHeadBytes = 0;
  #reservedBytes = 0;
  #requests = 0;
  #response: ServerResponse | undefined;
  /** The request whose body is being read. The connection closes after it. */
  #withBody: IncomingMessage | undefined;
  #hasBeenAllowed = false;
  #waitsForTurn = false;
  #waitsForResponse = false;
  #hasEnded = false;

  constructor(socket: Socket, options: HttpConnectionOptions) {
    super(socket, { decodeStrings: false });
    this.#options = options;
    this.#pooled = options.pooled;
    this.#pooled.isBusy = () => this.#owesDecision;
    this.#pooled.release = () => this.destroy();
  }

  /** The answer that gatecar owes on this connection, or that has not been written yet. */
  get pendingResponse(): ServerResponse | undefined {
    return this.#response?.writableFinished === false ? this.#response : undefined;
  }

  /** Whether bytes of a request have come that is not being answered yet. */
  get hasPartialRequest(): boolean {
    return this.#partialHeadBytes > 0 || this.#unread !== undefined;
  }

  /** Since when gatecar has waited for the next request, on the clock of the options; infinite while it owes an answer. */
  get idleSinceMs(): number {
    return this.pendingResponse === undefined ? this.#pooled.activeAtMs : Number.POSITIVE_INFINITY;
  }

  /** Whether more bytes belong to the request at hand. */
  get hasBody(): boolean {
    return this.#withBody !== undefined;
  }

  /** Whether no request has come yet. */
  get isNew(): boolean {
    return this.#requests === 0;
  }

  /** Called for each request before it is handled. @param hasBody whether more bytes belong to it. */
  begin(request: IncomingMessage, response: ServerResponse, hasBody: boolean): void {
    this.#requests += 1;
    this.#response = response;
    this.#pooled.activeAtMs = this.#options.now();
    this.#partialHeadBytes = 0;
    if (this.#reservedBytes > 0) this.#account();
    this.#followWaiting();
    if (hasBody) this.#withBody = request;
  }

  /** Reads the body of a request whose answer has been sent. Until then it is left in the network. */
  readBody(): void {
    this.#followWaiting();
    if (!this.#waitsForResponse) return;
    this.#waitsForResponse = false;
    this.#nextTurn();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const { pool, requests } = this.#options;
    this.#unread = undefined;
    requests.release(this.#reservedBytes);
    this.#reservedBytes = 0;
    pool.remove(this.#pooled);
    this.socket.destroy();
    callback(error);
  }

  protected override receive(chunk: Buffer): void {
    this.#unread = this.#unread === undefined ? chunk : Buffer.concat([this.#unread, chunk]);
    this.#chunkBytes = this.#unread.length;
    if (!this.#waitsForTurn && !this.#waitsForResponse) this.#read();
  }

  #read(): void {
    if (!this.#parse()) return;
    this.#unread = undefined;
    if (this.#partialHeadBytes > 0 || this.#reservedBytes > 0) this.#account();
    if (this.socket.isPaused()) this.socket.resume();
    if (this.#hasEnded) this.endInput();
  }

  /** Gives the parser what was read, up to the end of a request. @returns false if the rest has to wait. */
  #parse(): boolean {
    for (let pieces = 0; this.#unread !== undefined; pieces += 1) {
      // The answer to a request with a body closes the connection, so what follows the body is not a request.
      if (this.#withBody?.complete) return true;
      if (this.#mustWait()) {
        this.#afterResponse();
        return false;
      }
      const requests = this.#requests;
      const piece = this.#takePiece(this.#unread);
      this.push(piece);
      if (this.destroyed) return false;
      const isRequest = this.#requests > requests;
      if (isRequest) this.#forgetAnswered();
      if (!isRequest && this.#withBody === undefined) this.#partialHeadBytes += piece.length;
      if (this.#unread !== undefined && (isRequest || pieces === MAX_PIECES_PER_TURN)) {
        this.#nextTurn();
        return false;
      }
    }
    return true;
  }

  /** An answer holds on to its request, and that to its token: neither stays once it has been given. */
  #forgetAnswered(): void {
    const response = this.#response as ServerResponse;
    response.once('close', () => {
      if (this.#response === response) this.#response = undefined;
      if (response.statusCode === this.#options.allowedStatus) this.#hasBeenAllowed = true;
      this.#followWaiting();
    });
  }

  /** Whether a request is being answered, or its answer has not been read. A body is read after its answer. */
  #mustWait(): boolean {
    const response = this.pendingResponse;
    return response !== undefined && !(this.#withBody && response.headersSent);
  }

  /** Up to the end of a head, or a part of a body. */
  #takePiece(bytes: Buffer): Buffer {
    let end = BODY_PIECE_BYTES;
    if (this.#withBody === undefined) {
      const at = bytes.indexOf(HEAD_END);
      end = at < 0 ? bytes.length : at + HEAD_END.length;
    }
    this.#unread = end < bytes.length ? bytes.subarray(end) : undefined;
    return bytes.subarray(0, end);
  }

  /** Reserves what is held now. If that is too much in all, those who have waited longest for their client give way. */
  #account(): void {
    const { pool, pooled, requests, maxHeadBytes } = this.#options;
    const heldBytes = (this.#unread ? this.#chunkBytes : 0) + HEAD_BYTE_COST * this.#partialHeadBytes;
    // The parser limits heads, but ignores blank lines before a request, however many there are.
    let fits = this.#partialHeadBytes <= 2 * maxHeadBytes;
    // The one that has waited longest may be this one.
    while (fits && !this.destroyed && !requests.tryReserve(heldBytes - this.#reservedBytes)) {
      fits = pool.closeOneHolding();
    }
    if (this.destroyed) return;
    if (!fits) {
      this.#pooled.destroy();
      this.destroy();
      return;
    }
    this.#reservedBytes = heldBytes;
    if (heldBytes > 0) pool.holds(pooled);
    else pool.holdsNoMore(pooled);
    this.#followWaiting();
  }

  get #owesDecision(): boolean {
    return this.#response?.headersSent === false;
  }

  #followWaiting(): void {
    const { pool, pooled } = this.#options;
    if (this.#reservedBytes > 0 || !(this.#hasBeenAllowed || this.#owesDecision)) pool.waits(pooled);
    else if (pooled.isListed) pool.waitsNoMore(pooled);
  }

  protected override writeBlocked(): void {
    this.#followWaiting();
  }

  #nextTurn(): void {
    this.#waitsForTurn = true;
    this.socket.pause();
    this.#account();
    this.#options.turns.add(() => {
      this.#waitsForTurn = false;
      if (this.destroyed) return false;
      this.#read();
      return true;
    });
  }

  #afterResponse(): void {
    this.socket.pause();
    this.#account();
    this.#waitsForResponse = true;
    this.#response?.once('close', () => {
      this.#waitsForResponse = false;
      if (!this.#waitsForTurn && !this.destroyed) this.#nextTurn();
    });
  }

  /** The client sends no more. The server ends the connection then, so that is passed on after the last request. */
  protected override endInput(): void {
    this.#hasEnded = true;
    if (this.#unread === undefined) this.push(null);
  }
}
