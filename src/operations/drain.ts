import type { Server } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import type { Logger } from './log.ts';

export interface DrainOptions {
  /** The auth listener's server. */
  readonly server: Server;
  readonly log: Pick<Logger, 'info' | 'warn'>;
  /** How long to keep serving, unready, before accepting no more, in milliseconds. */
  readonly delayMs: number;
  /** How long what is under way may then take to finish, in milliseconds. */
  readonly timeoutMs: number;
}

/**
 * Stops a listener without losing a request. While the delay lasts it serves as before, so that whoever routes to us has
 * time to see that we are unready; then it accepts no more, lets idle connections go and waits for the rest.
 */
export async function drain({ server, log, delayMs, timeoutMs }: DrainOptions): Promise<void> {
  if (delayMs > 0) await wait(delayMs);
  const closed = Promise.withResolvers<boolean>();
  server.close(() => closed.resolve(true));
  server.closeIdleConnections();
  const timer = setTimeout(() => closed.resolve(false), timeoutMs);
  const finished = await closed.promise;
  clearTimeout(timer);
  if (finished) return;
  log.warn('requests were still under way when the shutdown timeout ended');
  server.closeAllConnections();
}
