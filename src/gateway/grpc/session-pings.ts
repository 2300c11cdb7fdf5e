import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { MAX_CONTROL_FRAMES_PER_PING, PINGS_PER_TURN } from '../../limits/constants.ts';

/** The open HTTP/2 sessions of a listener. It closes sessions that do not respond to pings. */
export class SessionPings {
  readonly #sockets = new Map<ServerHttp2Session, Socket>();
  readonly #silent = new Set<ServerHttp2Session>();
  readonly #controlFrames = new Map<ServerHttp2Session, number>();

  /** Adds a session until it closes. Closes its socket if it sends too many control frames. */
  add(session: ServerHttp2Session, socket: Socket): void {
    this.#sockets.set(session, socket);
    session.once('close', () => {
      this.#sockets.delete(session);
      this.#silent.delete(session);
      this.#controlFrames.delete(session);
    });
    const count = (): void => {
      const frames = (this.#controlFrames.get(session) ?? 0) + 1;
      this.#controlFrames.set(session, frames);
      if (frames > MAX_CONTROL_FRAMES_PER_PING) socket.destroy();
    };
    session.on('ping', count).on('remoteSettings', count);
  }

  /**
   * Pings every session, and closes those that have not responded to the previous ping. A limited
   * number is handled in one event-loop iteration.
   */
  async ping(): Promise<void> {
    this.#controlFrames.clear();
    let count = 0;
    // A copy, because a flood can add sessions faster than they are pinged.
    for (const [session, socket] of [...this.#sockets]) {
      this.#pingOrClose(session, socket);
      count += 1;
      if (count % PINGS_PER_TURN === 0) await nextTurn();
    }
  }

  #pingOrClose(session: ServerHttp2Session, socket: Socket): void {
    if (this.#silent.has(session)) {
      session.destroy();
      // The client does not respond, so gatecar does not wait until pending data is written.
      socket.destroy();
    } else if (!session.destroyed) {
      this.#silent.add(session);
      const responded = () => this.#silent.delete(session);
      // A client must acknowledge an empty SETTINGS frame, as it must a ping. Node sends no ping on
      // a session that received GOAWAY, and such a session can stay open indefinitely.
      if (session.closed) session.settings({}, responded);
      else session.ping(responded);
    }
  }

  [Symbol.iterator](): Iterator<ServerHttp2Session> {
    return this.#sockets.keys();
  }
}
