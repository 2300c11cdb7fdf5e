import {
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from 'node:http2';
import { createServer, type Socket, type Server as TcpServer } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { followHandshakes } from './handshake-failure.ts';
import { boundConnections, contextOptions, handshakeOptions, type ListenerOptions, peerOf } from './listener.ts';
import { useStreamTable } from './stream-table.ts';

/** What one connection may cost. Node's own bounds for floods of resets, pings, settings and continuations stay as they are. */
const LIMITS: ServerOptions = {
  settings: { maxConcurrentStreams: 1024, maxHeaderListSize: 16 * 1024 },
  // In MiB, of what Node and its library hold for a connection, messages aside.
  maxSessionMemory: 10,
};

/** Takes a request. @param peer its address; empty on a Unix socket. */
export type TakeStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, peer: string) => void;

/** Connections that speak HTTP/2. */
export interface Http2Listener {
  readonly server: TcpServer;
  /** Asks every connection whether somebody is there, and ends those where nobody answered the last time. */
  askWhoIsThere(): void;
  /** Accepts no more connections and no more requests, and resolves when those that were accepted are done. */
  close(): Promise<void>;
  /** Ends at once. */
  destroy(): void;
}

/** Accepts connections, over TLS or not, all of them within limits. */
export function http2Listener(take: TakeStream, options: ListenerOptions): Http2Listener {
  // Among them are those that have not come to speak HTTP/2.
  const sockets = new Set<Socket>();
  const sessions = new Map<ServerHttp2Session, Socket>();
  const silent = new Set<ServerHttp2Session>();
  let isClosing = false;

  const server = accept(options, socket => {
    // What becomes of a connection is HTTP/2's to say; nobody hears of an error after that.
    socket.on('error', () => {});
    const peer = peerOf(server, socket);
    const session = performServerHandshake(socket, LIMITS);
    useStreamTable(session);
    sessions.set(session, socket);
    session.once('close', () => {
      sessions.delete(session);
      silent.delete(session);
    });
    session.on('error', () => {});
    session.on('stream', (stream, headers) => {
      stream.on('error', ignore);
      take(stream, headers, peer);
    });
    if (isClosing) session.close();
  });
  boundConnections(server, options);
  followHandshakes(server, options.onHandshakeFailure);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });

  return {
    server,
    askWhoIsThere() {
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
  if (tls === undefined) return createServer(take);
  const shown = { ...handshakeOptions(tls, handshakeTimeoutMs), ...contextOptions(tls.material) };
  const server = createTlsServer({ ...shown, ALPNProtocols: ['h2'] }, (socket: TLSSocket) => {
    if (socket.alpnProtocol === 'h2') return take(socket);
    onHandshakeFailure?.('no_common_protocol', socket.remoteAddress);
    socket.destroy();
  });
  tls.onReplaced(material => server.setSecureContext(contextOptions(material)));
  return server.on('tlsClientError', (_error, socket) => socket.destroy());
}
