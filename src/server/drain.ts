import { setTimeout as wait } from 'node:timers/promises';
import type { Logger } from '../observability/logging/logger.ts';

/** A listener that {@link drain} can stop. */
export interface Drainable {
  /**
   * Stops accepting, closes idle connections, and resolves when all requests in flight are done.
   */
  close(): Promise<void>;
  /** Closes every connection immediately. */
  destroy(): void;
}

export interface DrainOptions {
  readonly listeners: readonly Drainable[];
  readonly log: Pick<Logger, 'warn'>;
  /** How long to keep serving, unready, before the listeners stop accepting, in milliseconds. */
  readonly delayMs: number;
  /** How long requests in flight may then take to finish, in milliseconds. */
  readonly timeoutMs: number;
}

/**
 * Stops listeners without losing a request. During the delay they serve as before, so that load
 * balancers have time to see the process as unready. Then they stop accepting, close idle
 * connections and wait for the requests in flight.
 */
export async function drain({ listeners, log, delayMs, timeoutMs }: DrainOptions): Promise<void> {
  if (delayMs > 0) await wait(delayMs);
  const late = Promise.withResolvers<'late'>();
  const timer = setTimeout(() => late.resolve('late'), timeoutMs);
  const outcome = await Promise.race([Promise.all(listeners.map(listener => listener.close())), late.promise]);
  clearTimeout(timer);
  if (outcome !== 'late') return;
  log.warn('shutdown timeout reached with requests in flight; closing connections');
  for (const listener of listeners) listener.destroy();
}
