import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Budget } from '../../limits/budget.ts';
import type { ConnectionPool, PooledConnection } from '../../limits/connection-pool.ts';
import { BODY_PIECE_BYTES, HELD_PER_HEAD_BYTE, MAX_PIECES_PER_TURN } from '../../limits/constants.ts';
import { PacedConnection } from '../paced-connection.ts';
import type { TurnQueue } from '../turn-queue.ts';
import type { WriteBatch } from '../write-batch.ts';

const HEAD_END = Buffer.from('\r\n\r\n');

export interface HttpConnectionOptions {
  readonly pool: ConnectionPool;
  /** The pool's record of this connection. */
  readonly pooled: PooledConnection;
  /** Budget for incomplete heads and for requests that have not been parsed. */
  readonly requests: Budget;
  /** Maximum length of a head, in bytes. */
  readonly maxHeadBytes: number;
  /** Schedules the next requests of connections in later event-loop iterations. */
  readonly turns: TurnQueue;
  /** Sends the responses of all connections. */
  readonly writes: WriteBatch;
  readonly now: () => number;
  /** The response status that a client without a valid credential never gets. */
  readonly allowedStatus?: number | undefined;
}

/**
 * A connection between a socket and Node's HTTP server.
 *
 * Node passes all bytes that it reads at once to its parser: 64 KiB, or more than a thousand
 * requests. This class passes one request per event-loop iteration, after the response to the
 * previous one has been written. A client that pipelines therefore gets the same share of the event
 * loop as other clients. At most one request of a connection waits for a decision, and at most one
 * response waits to be read.
 */
export class HttpConnection extends PacedConnection {
  readonly #options: HttpConnectionOptions;
  readonly #pooled: PooledConnection;
  /** Bytes that have not been passed to the parser. A slice keeps its whole chunk in memory. */
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
    super(socket, { decodeStrings: false }, options.writes);
    // A TLS socket would otherwise end its own side with the client's, before the response is sent.
    socket.allowHalfOpen = true;
    this.#options = options;
    this.#pooled = options.pooled;
    this.#pooled.isBusy = () => this.#owesDecision;
    this.#pooled.release = () => this.destroy();
  }

  /** The response that gatecar still has to send, or that has not been written completely. */
  get pendingResponse(): ServerResponse | undefined {
    return this.#response?.writableFinished === false ? this.#response : undefined;
  }

  /** Whether gatecar has received bytes of a request that it does not yet handle. */
  get hasPartialRequest(): boolean {
    return this.#partialHeadBytes > 0 || this.#unread !== undefined;
  }

  /** Start of the wait for the next request, in ms. Infinite while a response is pending. */
  get idleSinceMs(): number {
    return this.pendingResponse === undefined ? this.#pooled.activeAtMs : Number.POSITIVE_INFINITY;
  }

  /** Whether the current request declares a body. */
  get hasBody(): boolean {
    return this.#withBody !== undefined;
  }

  /** Whether no request has been received yet. */
  get isNew(): boolean {
    return this.#requests === 0;
  }

  /** Called before a request is handled. @param hasBody whether the request declares a body. */
  begin(request: IncomingMessage, response: ServerResponse, hasBody: boolean): void {
    this.#requests += 1;
    this.#response = response;
    this.#pooled.activeAtMs = this.#options.now();
    this.#partialHeadBytes = 0;
    if (this.#reservedBytes > 0) this.#account();
    this.#followWaiting();
    if (hasBody) this.#withBody = request;
  }

  /** Reads the body of a request after its response has been sent. Until then, it stays unread. */
  readBody(): void {
    this.#followWaiting();
    if (!this.#waitsForResponse) return;
    this.#waitsForResponse = false;
    this.#nextTurn();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const { pool, requests, writes } = this.#options;
    // Sends a response that waits for the end of the iteration.
    writes.flush();
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

  /** Parses unread bytes up to the end of a request. @returns false if the rest must wait. */
  #parse(): boolean {
    for (let pieces = 0; this.#unread !== undefined; pieces += 1) {
      // The response to a request with a body closes the connection: no request follows the body.
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

  /** Drops a closed response. It references its request, which contains the token. */
  #forgetAnswered(): void {
    const response = this.#response as ServerResponse;
    response.once('close', () => {
      if (this.#response === response) this.#response = undefined;
      if (response.statusCode === this.#options.allowedStatus) this.#hasBeenAllowed = true;
      this.#followWaiting();
    });
  }

  /** Whether the next bytes must wait. A body is read once the headers of its response are sent. */
  #mustWait(): boolean {
    const response = this.pendingResponse;
    return response !== undefined && !(this.#withBody && response.headersSent);
  }

  /** Takes the bytes up to the end of a head, or a part of a body. */
  #takePiece(bytes: Buffer): Buffer {
    let end = BODY_PIECE_BYTES;
    if (this.#withBody === undefined) {
      const at = bytes.indexOf(HEAD_END);
      end = at < 0 ? bytes.length : at + HEAD_END.length;
    }
    this.#unread = end < bytes.length ? bytes.subarray(end) : undefined;
    return this.#unread ? bytes.subarray(0, end) : bytes;
  }

  /** Reserves what is held now. If that is too much, closes those that have held bytes longest. */
  #account(): void {
    const { pool, pooled, requests, maxHeadBytes } = this.#options;
    const heldBytes = (this.#unread ? this.#chunkBytes : 0) + HELD_PER_HEAD_BYTE * this.#partialHeadBytes;
    // The parser limits heads, but it accepts any number of blank lines before a request.
    let fits = this.#partialHeadBytes <= 2 * maxHeadBytes;
    // The connection that is closed may be this one.
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

  /** The server closes at the end of the input, so the end is passed on after the last request. */
  protected override endInput(): void {
    this.#hasEnded = true;
    if (this.#unread === undefined) this.push(null);
  }
}
