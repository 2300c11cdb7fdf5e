import {
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2';
import { createServer, type Socket, type Server as TcpServer } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import type { Budget } from '../../limits/budget.ts';
import {
  FRAMES_PER_TURN,
  FRAMES_PER_TURN_OF_ALLOWED,
  GRPC_MAX_HEADER_BYTES,
  GRPC_MAX_SESSION_MIB,
  GRPC_MAX_STREAMS,
} from '../../limits/constants.ts';
import { followHandshakes } from '../../tls/handshake-failure.ts';
import { contextOptions, handshakeOptions, type ListenerOptions, remoteAddress } from '../../tls/listener-options.ts';
import { type ConnectionIntakeOptions, connectionIntake } from '../connection-intake.ts';
import { SharedConnection, turnsByAllowance } from '../fair-turns.ts';
import { FrameTurns } from './frame-turns.ts';
import { Http2Connection } from './http2-connection.ts';
import { SessionPings } from './session-pings.ts';

/**
 * Limits for one connection. Node's own limits on floods of resets, pings, settings and
 * continuations keep their defaults.
 */
const LIMITS: ServerOptions = {
  settings: { maxConcurrentStreams: GRPC_MAX_STREAMS, maxHeaderListSize: GRPC_MAX_HEADER_BYTES },
  maxSessionMemory: GRPC_MAX_SESSION_MIB,
};

/** A request whose headers have been received. */
export interface IncomingStream {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  /** The client's address; empty on a Unix socket. */
  readonly peer: string;
  readonly connection: SharedConnection;
}

/** Handles a request. */
export type StreamHandler = (request: IncomingStream) => void;

export interface Http2ListenerOptions extends ListenerOptions, Omit<ConnectionIntakeOptions, 'protocol'> {
  /** Budget for frames that have been read and wait to be passed on, shared by all listeners. */
  readonly requests: Budget;
  /**
   * Whether a peer is trusted to send no more than a gateway does. Its connections are not paced,
   * because pacing takes CPU time.
   */
  readonly isTrusted?: (peer: string) => boolean;
}

/** A listener for HTTP/2 connections. */
export interface Http2Listener {
  readonly server: TcpServer;
  /**
   * Pings every session, and closes those that have not responded to the previous ping. Each
   * event-loop iteration serves a limited number of sessions.
   */
  pingSessions(): Promise<void>;
  /** Stops accepting connections and requests, and resolves when the accepted requests are done. */
  close(): Promise<void>;
  /** Closes every connection immediately. */
  destroy(): void;
}

/** Creates a listener that accepts HTTP/2 connections, with or without TLS, within limits. */
export function http2Listener(take: StreamHandler, options: Http2ListenerOptions): Http2Listener {
  const { pool, requests, isTrusted = () => false } = options;
  const turnsOf = turnsByAllowance(new FrameTurns(FRAMES_PER_TURN), new FrameTurns(FRAMES_PER_TURN_OF_ALLOWED));
  // Includes sockets that have no HTTP/2 session yet, for example during a TLS handshake.
  const sockets = new Set<Socket>();
  const sessions = new SessionPings();
  let isClosing = false;

  const server = accept(options, socket => {
    // The HTTP/2 session handles a failed connection, so errors of the socket need no further
    // handling.
    socket.on('error', () => {});
    const peer = remoteAddress(server, socket);
    const shared = new SharedConnection();
    const connection = isTrusted(peer) ? socket : new Http2Connection(socket, shared, turnsOf, requests);
    const session = performServerHandshake(connection, LIMITS);
    session.on('error', () => {});
    sessions.add(session, socket);
    const pooled = intake.pooledOf(socket);
    pooled.isBusy = () => shared.isBusy;
    shared.onChange = () => {
      if (shared.hasBeenAllowed || shared.isBusy) pool.waitsNoMore(pooled);
      else pool.waits(pooled);
    };
    takeStreams(session, shared, peer, request => {
      pooled.activeAtMs = performance.now();
      // This moves the connection to the end of the waiting list. The pool first closes the
      // connection that has been inactive longest.
      pool.waitsNoMore(pooled);
      shared.onChange();
      take(request);
    });
    if (isClosing) session.close();
  });
  const intake = connectionIntake(server, options.tls !== undefined, { ...options, protocol: 'grpc' });
  followHandshakes(server, options.onHandshakeFailure);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  return {
    server,
    pingSessions: () => sessions.ping(),
    close() {
      isClosing = true;
      return new Promise(resolve => {
        server.close(() => resolve());
        for (const session of sessions) session.close();
      });
    },
    destroy() {
      server.close();
      for (const session of sessions) session.destroy();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Counts the open streams of a session, and passes each new one on. */
function takeStreams(
  session: ServerHttp2Session,
  connection: SharedConnection,
  peer: string,
  take: StreamHandler,
): void {
  const ended = (): void => {
    connection.open -= 1;
  };
  session.on('stream', (stream, headers, _flags, rawHeaders) => {
    stream.on('error', ignore);
    connection.open += 1;
    stream.once('close', ended);
    take({ stream, headers, rawHeaders, peer, connection });
  });
}

/**
 * One function for all streams. An error closes its stream, and gatecar needs no further
 * information.
 */
function ignore(): void {}

function accept(
  { tls, handshakeTimeoutMs, onHandshakeFailure }: ListenerOptions,
  take: (socket: Socket) => void,
): TcpServer {
  if (tls === undefined) return createServer({ noDelay: true }, take);
  const shown = { ...handshakeOptions(tls, handshakeTimeoutMs), ...contextOptions(tls.material) };
  const server = createTlsServer({ ...shown, noDelay: true, ALPNProtocols: ['h2'] }, (socket: TLSSocket) => {
    if (socket.alpnProtocol === 'h2') return take(socket);
    onHandshakeFailure?.('no_common_protocol', socket.remoteAddress);
    socket.destroy();
  });
  tls.onReplaced(material => server.setSecureContext(contextOptions(material)));
  return server.on('tlsClientError', (_error, socket) => socket.destroy());
}
