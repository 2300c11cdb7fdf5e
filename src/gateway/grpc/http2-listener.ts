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
import { followHandshakes } from '../../tls/handshake-failure.ts';
import { contextOptions, handshakeOptions, type ListenerOptions, remoteAddress } from '../../tls/listener-options.ts';
import { type ConnectionIntakeOptions, connectionIntake } from '../connection-intake.ts';
import { SharedConnection } from '../fair-turns.ts';
import { FrameTurns, TURNS_OF_A_CALL, type TurnShare } from './frame-turns.ts';
import { Http2Connection } from './http2-connection.ts';

/** What one connection may cost. Node's own bounds for floods of resets, pings, settings and continuations stay as they are. */
const LIMITS: ServerOptions = {
  settings: { maxConcurrentStreams: 1024, maxHeaderListSize: 16 * 1024 },
  // In MiB, of what Node and its library hold for a connection, messages aside.
  maxSessionMemory: 10,
};

/** How many frames that ask for an answer of the protocol itself a connection may send between two pings that gatecar sends. */
const MAX_CONTROL_FRAMES = 1_000;

/** What connections may have of a turn of the event loop: those without an allowed request, and those with one. */
const SHARE: TurnShare = { frames: 256, streams: 12, ms: 1, pass: { frames: 16, streams: 1, bytes: 32 * 1024 } };
const SHARE_OF_ALLOWED: TurnShare = {
  ...{ frames: 1024, streams: 64, ms: 10 },
  pass: { frames: 256, streams: 22, bytes: 64 * 1024 },
};

/** A request whose headers have come. */
export interface IncomingStream {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  /** The client's address; empty on a Unix socket. */
  readonly peer: string;
  readonly connection: SharedConnection;
}

/** Takes a request. */
export type StreamHandler = (request: IncomingStream) => void;

export interface Http2ListenerOptions extends ListenerOptions, Omit<ConnectionIntakeOptions, 'protocol'> {
  /** For frames that have been read and wait for their turn, of all listeners together. */
  readonly requests: Budget;
  /** Whether a peer is trusted to send no more than a gateway does. Its connections need no pacing, which takes time. */
  readonly isTrusted?: (peer: string) => boolean;
}

/** Connections that speak HTTP/2. */
export interface Http2Listener {
  readonly server: TcpServer;
  /** Asks every connection whether somebody is there, and ends those where nobody answered the last time. */
  pingSessions(): void;
  /** Accepts no more connections and no more requests, and resolves when those that were accepted are done. */
  close(): Promise<void>;
  /** Ends at once. */
  destroy(): void;
}

/** Accepts connections, over TLS or not, all of them within limits. */
export function http2Listener(take: StreamHandler, options: Http2ListenerOptions): Http2Listener {
  const { pool, requests, isTrusted = () => false } = options;
  const turns = new FrameTurns(SHARE);
  const turnsOfAllowed = new FrameTurns(SHARE_OF_ALLOWED);
  const turnsOf = ({ hasBeenAllowed }: SharedConnection): FrameTurns => {
    if (!hasBeenAllowed) return turns;
    turns.shorten(TURNS_OF_A_CALL);
    return turnsOfAllowed;
  };
  // Among them are those that have not come to speak HTTP/2.
  const sockets = new Set<Socket>();
  const sessions = new Map<ServerHttp2Session, Socket>();
  const silent = new Set<ServerHttp2Session>();
  const controlFrames = new Map<ServerHttp2Session, number>();
  let isClosing = false;

  const server = accept(options, socket => {
    // What becomes of a connection is HTTP/2's to say; nobody hears of an error after that.
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
      // The connection that has been inactive for longest gives way first.
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

  return {
    server,
    pingSessions() {
      controlFrames.clear();
      for (const [session, socket] of sessions) {
        if (silent.has(session)) {
          session.destroy();
          // Without waiting for what is still to be written to whoever is not there.
          socket.destroy();
        } else if (!session.destroyed) {
          silent.add(session);
          // Settings without a change are answered as a ping is. Of a connection that is about to close, which who said GOAWAY
          // may leave open for ever, Node asks nothing by a ping.
          if (session.closed) session.settings({}, () => silent.delete(session));
          else session.ping(() => silent.delete(session));
        }
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

/** One for all streams: whatever goes wrong on one, closes it, and that is all there is to know. */
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
