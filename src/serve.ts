import { createApp, type Surroundings, VERSION } from './app.ts';
import { warnings } from './config/rules.ts';
import type { Config } from './config/schema.ts';
import { drain } from './operations/drain.ts';
import { listen } from './operations/listen.ts';
import type { Logger } from './operations/log.ts';

/** A running sidecar. */
export interface Running {
  /** Where it listens. */
  readonly auth: string;
  readonly ops: string;
  /** Drains and stops; resolves when nothing is left. */
  stop(): Promise<void>;
}

/**
 * Builds the app and listens.
 *
 * @throws {ListenError} naming the setting whose address cannot be had.
 */
export async function serve(config: Config, surroundings: Surroundings, log: Logger): Promise<Running> {
  const app = createApp(config, surroundings, log);
  try {
    const ops = await listen(app.ops, config.opsListen, 'GATECAR_OPS_LISTEN');
    const auth = await listen(app.auth, config.listen, 'GATECAR_LISTEN');
    for (const warning of warnings(config)) log.warn(warning);
    log.info({ version: VERSION, mode: config.mode, auth, ops }, 'listening');
    app.health.start();
    return { auth, ops, stop: () => stop(app, config, log) };
  } catch (error) {
    app.ops.server.close();
    await app.close();
    throw error;
  }
}

async function stop(app: ReturnType<typeof createApp>, config: Config, log: Logger): Promise<void> {
  log.info('draining');
  app.drain();
  const { shutdownDelayMs: delayMs, shutdownTimeoutMs: timeoutMs } = config;
  await drain({ server: app.auth.server, log, delayMs, timeoutMs });
  await app.close();
  app.ops.server.close();
  app.ops.server.closeAllConnections();
  log.info('stopped');
}
