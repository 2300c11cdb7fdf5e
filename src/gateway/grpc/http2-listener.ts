import {
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2';
import { createServer, type Socket, type Server as TcpServer } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import type { Budget } from '../../limits/budget.ts';
import { followHandshakes } from '../../tls/handshake-failure.ts';
import { contextOptions, handshakeOptions, type ListenerOptions, remoteAddress } from '../../tls/listener-options.ts';
import { type ConnectionIntakeOptions, connectionIntake } from '../connection-intake.ts';
import { SharedConnection } from '../fair-turns.ts';
import { FrameTurns, TURNS_OF_A_CALL, type TurnShare } from './frame-turns.ts';
import { Http2Connection } from './http2-connection.ts';

/**
 * Limits for one connection. Node's own limits on floods of resets, pings, settings and
 * continuations keep their defaults.
 */
const LIMITS: ServerOptions = {
  settings: { maxConcurrentStreams: 1024, maxHeaderListSize: 16 * 1024 },
  // In MiB. Limits what Node and nghttp2 hold for a connection, not counting messages.
  maxSessionMemory: 10,
};

/**
 * Maximum number of PING and SETTINGS frames from one connection between two pings that gatecar
 * sends. HTTP/2 requires a response to each of these frames.
 */
const MAX_CONTROL_FRAMES = 1_000;

/** Maximum number of sessions that are pinged or closed in one event-loop iteration. */
const PINGS_PER_TURN = 4;

/**
 * Shares of an event-loop iteration: for connections without an allowed request, and for
 * connections with one.
 */
const SHARE: TurnShare = { frames: 256, streams: 12, ms: 1, pass: { frames: 16, streams: 1, bytes: 32 * 1024 } };
const SHARE_OF_ALLOWED: TurnShare = {
  ...{ frames: 1024, streams: 64, ms: 10 },
  pass: { frames: 256, streams: 22, bytes: 64 * 1024 },
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
  const turns = new FrameTurns(SHARE);
  const turnsOfAllowed = new FrameTurns(SHARE_OF_ALLOWED);
  const turnsOf = ({ hasBeenAllowed }: SharedConnection): FrameTurns => {
    if (!hasBeenAllowed) return turns;
    turns.shorten(TURNS_OF_A_CALL);
    return turnsOfAllowed;
  };
  // Includes sockets that have no HTTP/2 session yet, for example during a TLS handshake.
  const sockets = new Set<Socket>();
  const sessions = new Map<ServerHttp2Session, Socket>();
  const silent = new Set<ServerHttp2Session>();
  const controlFrames = new Map<ServerHttp2Session, number>();
  let isClosing = false;

  const server = accept(options, socket => {
    // The HTTP/2 session handles a failed connection, so errors of the socket need no further
    // handling.
    socket.on('error', () => {});
    const peer = remoteAddress(server, socket);
    const shared = new SharedConnection();
    const connection = isTrusted(peer) ? socket : new Http2Connection(socket, shared, turnsOf, requests);
    const session = performServerHandshake(connection, LIMITS);
    sessions.set(session, socket);
    session.once('close', () => {
      sessions.delete(session);
      silent.delete(session);
      controlFrames.delete(session);
    });
    session.on('error', () => {});
    const pooled = intake.pooledOf(socket);
    pooled.isBusy = () => shared.isBusy;
    shared.onChange = () => {
      if (shared.hasBeenAllowed || shared.isBusy) pool.waitsNoMore(pooled);
      else pool.waits(pooled);
    };
    const ended = (): void => {
      shared.open -= 1;
    };
    session.on('stream', (stream, headers, _flags, rawHeaders) => {
      stream.on('error', ignore);
      shared.open += 1;
      pooled.activeAtMs = performance.now();
      // This moves the connection to the end of the waiting list. The pool first closes the
      // connection that has been inactive longest.
      pool.waitsNoMore(pooled);
      shared.onChange();
      stream.once('close', ended);
      take({ stream, headers, rawHeaders, peer, connection: shared });
    });
    const count = (): void => {
      const frames = (controlFrames.get(session) ?? 0) + 1;
      controlFrames.set(session, frames);
      if (frames > MAX_CONTROL_FRAMES) socket.destroy();
    };
    session.on('ping', count).on('remoteSettings', count);
    if (isClosing) session.close();
  });
  const intake = connectionIntake(server, options.tls !== undefined, { ...options, protocol: 'grpc' });
  followHandshakes(server, options.onHandshakeFailure);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  const ping = (session: ServerHttp2Session, socket: Socket): void => {
    if (silent.has(session)) {
      session.destroy();
      // The client does not respond, so gatecar does not wait until pending data is written.
      socket.destroy();
    } else if (!session.destroyed) {
      silent.add(session);
      // A client must acknowledge an empty SETTINGS frame, as it must a ping. Node sends no ping on
      // a session that received GOAWAY, and such a session can stay open indefinitely.
      if (session.closed) session.settings({}, () => silent.delete(session));
      else session.ping(() => silent.delete(session));
    }
  };

  return {
    server,
    async pingSessions() {
      controlFrames.clear();
      let count = 0;
      // A copy, because a flood can add sessions faster than they are pinged.
      for (const [session, socket] of [...sessions]) {
        ping(session, socket);
        count += 1;
        if (count % PINGS_PER_TURN === 0) await nextTurn();
      }
    },
    close() {
      isClosing = true;
      return new Promise(resolve => {
        server.close(() => resolve());
        for (const session of sessions.keys()) session.close();
      });
    },
    destroy() {
      server.close();
      for (const session of sessions.keys()) session.destroy();
      for (const socket of sockets) socket.destroy();
    },
  };
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
