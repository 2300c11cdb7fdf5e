import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { createAuthPipeline, createFormatOnlyPipeline } from './auth-pipeline.ts';
import type { Config } from './config/schema.ts';
import type { TracingSettings } from './config/tracing-settings.ts';
import { createResponseRenderer } from './gateway/auth-response.ts';
import type { DecisionEvent, Protocol } from './gateway/decision-event.ts';
import { trustedProxies } from './gateway/forwarded-headers.ts';
import type { GrpcListener, GrpcListenerOptions } from './gateway/grpc/listener.ts';
import { handleClientError } from './gateway/http/client-error.ts';
import { createHttpListener, type HttpListener } from './gateway/http/listener.ts';
import { connectionOf, httpServer } from './gateway/http/server.ts';
import type { RuntimeEnvironment } from './kube/endpoint-selection.ts';
import { Budget } from './limits/budget.ts';
import { ConnectionPool } from './limits/connection-pool.ts';
import {
  ALLOWED_ONLY_SHARE,
  CONNECTION_BYTES,
  OPS_CONNECTIONS,
  OPS_HEADER_BYTES,
  OPS_KEEP_ALIVE_MS,
} from './limits/constants.ts';
import { type ProcessLimits, processLimits, processMemory } from './limits/process-limits.ts';
import { type AuditLog, auditLog } from './observability/audit-log.ts';
import { type DecisionLog, decisionLog } from './observability/decision-log.ts';
import { handshakeLog } from './observability/handshake-log.ts';
import type { Logger } from './observability/logging/logger.ts';
import { type Metrics, metrics } from './observability/metrics.ts';
import type { Tracing } from './observability/tracing.ts';
import { unknownPathLog } from './observability/unknown-path-log.ts';
import type { Health } from './server/health.ts';
import { opsServer } from './server/ops-listener.ts';
import { zPages } from './server/z-pages.ts';
import { listenerTls, type TlsReloader } from './tls/tls-reloader.ts';

/** All components, connected but not yet listening. */
export interface App {
  readonly auth: HttpListener;
  readonly ops: FastifyInstance;
  /** `undefined` if `GATECAR_GRPC_LISTEN` is not set. */
  readonly grpc: GrpcListener | undefined;
  readonly health: Health;
  readonly decisions: DecisionLog;
  /** `undefined` if the listeners have no TLS. */
  readonly tls: TlsReloader | undefined;
  /** How many connections without TLS the auth listener can hold, if there are no others. */
  readonly maxPlainConnections: number;
  readonly limits: ProcessLimits;
  /** Starts to drain: responses ask gateways to disconnect, and the readiness probe fails. */
  drain(): void;
  /** Closes the connections to the API server and logs the summaries of suppressed lines. */
  close(): Promise<void>;
}

/**
 * The version in `package.json`, which is also the version of the image, the chart and the metric.
 */
export const VERSION: string = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8')).version;

/**
 * Builds all components from the configuration (composition root).
 *
 * @throws {TlsFileError} if a TLS file is not usable; names its setting.
 */
export async function createApp(config: Config, environment: RuntimeEnvironment, log: Logger): Promise<App> {
  const counters = metrics(VERSION);
  const tls = await listenerTls(config, counters, log);
  const decisions = decisionLog(log);
  const handshakes = handshakeLog(log, counters.recordHandshakeFailure);
  const audit = auditLog(log, config.auditLog);
  const tracing = environment.tracing && (await openTracing(environment.tracing, log));
  counters.observeOutput(log);
  const { limits, requests, waiting, pool } = createBudgets(config, counters);
  const pipeline =
    config.mode === 'format-only'
      ? createFormatOnlyPipeline(log)
      : createAuthPipeline({ config, environment, counters, log, requests: waiting, version: VERSION });
  let draining = false;

  const gateway: GrpcListenerOptions = {
    authorize: pipeline.authorize,
    answer: createResponseRenderer(config),
    trusted: trustedProxies(config.trustedProxies ?? []),
    clientIpHeader: config.clientIpHeader?.toLowerCase(),
    limitsClients: config.clientFailureLimit !== undefined,
    startTrace: tracing?.startTrace ?? audit?.startTrace,
    tls,
    pool,
    requests,
    maxConnections: config.maxConnections,
    onFault: error => log.error({ err: error }, 'internal error; responded as unavailable'),
    onDecision: recordEverywhere(counters, decisions, audit, tracing),
  };
  const of = (listener: Protocol) => ({
    onRejected: () => counters.recordConnectionRejected(listener),
    onHandshakeFailure: handshakes.of(listener),
  });
  const http = { ...of('http'), onUnknownPath: unknownPathLog(log) };
  const grpc = config.grpcListen && (await openGrpc({ ...gateway, ...of('grpc') }));
  pipeline.health.onReadiness(ready => grpc?.setServing(ready));

  return {
    auth: createHttpListener({ ...gateway, ...http, draining: () => draining }),
    ops: openOps(config, pipeline.health, counters),
    grpc,
    health: pipeline.health,
    decisions,
    tls,
    maxPlainConnections: Math.floor(limits.connectionsBytes / CONNECTION_BYTES.http),
    limits,
    drain() {
      draining = true;
      pipeline.health.drain();
    },
    async close() {
      tls?.stop();
      decisions.close();
      handshakes.close();
      await pipeline.close();
      await tracing?.close();
    },
  };
}

function openOps(config: Config, health: Health, counters: Metrics): FastifyInstance {
  const pool = new ConnectionPool(OPS_CONNECTIONS * CONNECTION_BYTES.http, { minIdleMs: 0 });
  // Twice the maximum that all connections hold of request heads. No connection is closed because
  // of the bytes of another.
  const requests = new Budget(OPS_CONNECTIONS * 128 * 1024);
  return opsServer({
    health,
    metrics: counters,
    pages: zPages({ config, health, version: VERSION }),
    listener: handler =>
      httpServer(handler, {
        pool,
        requests,
        maxHeaderBytes: OPS_HEADER_BYTES,
        keepAliveMs: OPS_KEEP_ALIVE_MS,
        onRejected: () => counters.recordConnectionRejected('ops'),
      }).server,
    hasBody: request => connectionOf(request).hasBody,
    onClientError: handleClientError,
  });
}

/** Returns a function that passes each decision to all that record it. */
function recordEverywhere(
  counters: Metrics,
  decisions: DecisionLog,
  audit: AuditLog | undefined,
  tracing: Tracing | undefined,
): (event: DecisionEvent) => void {
  return event => {
    counters.recordDecision(event.protocol, event.decision, event.durationMs);
    decisions.record(event);
    audit?.record(event);
    tracing?.decided(event);
  };
}

interface Budgets {
  readonly limits: ProcessLimits;
  /** For requests and responses that a client sends or reads slowly. */
  readonly requests: Budget;
  /** For requests that wait for a review. */
  readonly waiting: Budget;
  readonly pool: ConnectionPool;
}

/** Divides the memory of the process. */
function createBudgets(config: Config, counters: Metrics): Budgets {
  const limits = processLimits(processMemory(config.memoryLimit), config.cacheMaxEntries);
  const requests = new Budget(limits.transfersBytes, { allowedOnlyShare: ALLOWED_ONLY_SHARE });
  const waiting = new Budget(limits.waitingBytes);
  const pool = new ConnectionPool(limits.connectionsBytes);
  counters.observeBudgets({ connections: pool.budget, transfers: requests, waiting });
  return { limits, requests, waiting, pool };
}

/** Starts tracing. The module is loaded only if tracing is configured. */
async function openTracing(settings: TracingSettings, log: Logger): Promise<Tracing> {
  const tracing = await import('./observability/tracing.ts');
  return tracing.openTracing(settings, VERSION, log);
}

/** Creates the gRPC listener. The module is loaded only if the listener is configured. */
async function openGrpc(options: GrpcListenerOptions): Promise<GrpcListener> {
  const { createGrpcListener: grpcGateway } = await import('./gateway/grpc/listener.ts');
  return grpcGateway(options);
}
