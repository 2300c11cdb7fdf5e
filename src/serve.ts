import { type App, createApp, VERSION } from './app.ts';
import { warnings } from './config/cross-setting-rules.ts';
import { policyInForce } from './config/effective-settings.ts';
import type { Config } from './config/schema.ts';
import { describeApiServer, type RuntimeEnvironment } from './kube/endpoint-selection.ts';
import type { Logger } from './observability/logging/logger.ts';
import { type Drainable, drain } from './server/drain.ts';
import { bindAddress, listen } from './server/listen.ts';

/** A running sidecar. */
export interface RunningServer {
  /** The address of the auth listener. */
  readonly auth: string;
  readonly ops: string;
  readonly grpc: string | undefined;
  /** Drains and stops. Resolves when all listeners are closed. */
  stop(): Promise<void>;
}

/**
 * Builds the app and opens its listeners.
 *
 * @throws {ListenError} if an address is not available; names its setting.
 * @throws {TlsFileError} if a TLS file is not usable; names its setting.
 */
export async function serve(
  config: Config,
  runtimeEnvironment: RuntimeEnvironment,
  log: Logger,
): Promise<RunningServer> {
  const app = await createApp(config, runtimeEnvironment, log);
  const listeners = [app.auth, ...(app.grpc ? [app.grpc] : [])];
  try {
    const ops = await listen(app.ops, config.opsListen, 'GATECAR_OPS_LISTEN', config.socketMode);
    const auth = await listen(app.auth.app, config.listen, 'GATECAR_LISTEN', config.socketMode);
    const grpc = await listenGrpc(app, config);
    for (const warning of warnings(config)) log.warn(warning);
    const tls = config.tlsClientCaFile === undefined ? app.tls && 'on' : 'mutual';
    const { maxPlainConnections, limits } = app;
    const apiServer = describeApiServer(config, runtimeEnvironment);
    log.info(
      {
        version: VERSION,
        mode: config.mode,
        auth,
        ops,
        grpc,
        tls,
        apiServer,
        ...policyInForce(config),
        maxPlainConnections,
        ...limits,
      },
      'listening',
    );
    app.health.start();
    app.tls?.start();
    return { auth, ops, grpc, stop: () => stop(app, listeners, config, log) };
  } catch (error) {
    await shutDown(app);
    throw error;
  }
}

async function listenGrpc({ grpc }: App, { grpcListen, socketMode }: Config): Promise<string | undefined> {
  if (grpc === undefined || grpcListen === undefined) return undefined;
  return bindAddress(target => grpc.listen(target), grpcListen, 'GATECAR_GRPC_LISTEN', socketMode);
}

async function stop(app: App, listeners: readonly Drainable[], config: Config, log: Logger): Promise<void> {
  log.info('draining');
  app.drain();
  const { shutdownDelayMs: delayMs, shutdownTimeoutMs: timeoutMs } = config;
  await drain({ listeners, log, delayMs, timeoutMs });
  await shutDown(app);
  log.info('stopped');
}

async function shutDown(app: App): Promise<void> {
  await app.close();
  const { server } = app.ops;
  server.close();
  server.closeAllConnections();
  app.auth.destroy();
  app.grpc?.destroy();
}
