import { setTimeout as wait } from 'node:timers/promises';
import type { Logger } from '../observability/logging/logger.ts';

/** A listener as draining sees it. */
export interface Drainable {
  /** Accepts no more, lets idle connections go, and resolves when what is under way is done. */
  close(): Promise<void>;
  /** Ends every connection at once. */
  destroy(): void;
}

export interface DrainOptions {
  readonly listeners: readonly Drainable[];
  readonly log: Pick<Logger, 'warn'>;
  /** How long to keep serving, unready, before accepting no more, in milliseconds. */
  readonly delayMs: number;
  /** How long what is under way may then take to finish, in milliseconds. */
  readonly timeoutMs: number;
}

/**
 * Stops listeners without losing a request. While the delay lasts they serve as before, so that whoever routes to us has
 * time to see that we are unready; then they accept no more, let idle connections go and wait for the rest.
 */
export async function drain({ listeners, log, delayMs, timeoutMs }: DrainOptions): Promise<void> {
  if (delayMs > 0) await wait(delayMs);
  const late = Promise.withResolvers<'late'>();
  const timer = setTimeout(() => late.resolve('late'), timeoutMs);
  const outcome = await Promise.race([Promise.all(listeners.map(listener => listener.close())), late.promise]);
  clearTimeout(timer);
  if (outcome !== 'late') return;
  log.warn('requests were still under way when the shutdown timeout ended');
  for (const listener of listeners) listener.destroy();
}
