import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { createAuthPipeline, createBasicModePipeline } from './auth-pipeline.ts';
import type { Config } from './config/schema.ts';
import type { TracingSettings } from './config/tracing-settings.ts';
import { createResponseRenderer } from './gateway/auth-response.ts';
import type { Protocol } from './gateway/decision-event.ts';
import { trustedProxies } from './gateway/forwarded-headers.ts';
import type { GrpcListener, GrpcListenerOptions } from './gateway/grpc/listener.ts';
import { handleClientError } from './gateway/http/client-error.ts';
import { createHttpListener, type HttpListener } from './gateway/http/listener.ts';
import { connectionOf, httpServer } from './gateway/http/server.ts';
import type { RuntimeEnvironment } from './kube/endpoint-selection.ts';
import { Budget } from './limits/budget.ts';
import { CONNECTION_BYTES, ConnectionPool } from './limits/connection-pool.ts';
import { ALLOWED_ONLY_SHARE, type ProcessLimits, processLimits, processMemory } from './limits/process-limits.ts';
import { auditLog } from './observability/audit-log.ts';
import { type DecisionLog, decisionLog } from './observability/decision-log.ts';
import { handshakeLog } from './observability/handshake-log.ts';
import type { Logger } from './observability/logging/logger.ts';
import { type Metrics, metrics } from './observability/metrics.ts';
import type { Tracing } from './observability/tracing.ts';
import type { Health } from './server/health.ts';
import { opsServer } from './server/ops-listener.ts';
import { listenerTls, type TlsReloader } from './tls/tls-reloader.ts';

/** All parts, wired and not yet listening. */
export interface App {
  readonly auth: HttpListener;
  readonly ops: FastifyInstance;
  /** `undefined` where it is not asked for. */
  readonly grpc: GrpcListener | undefined;
  readonly health: Health;
  readonly decisions: DecisionLog;
  /** `undefined` where the listeners are plain. */
  readonly tls: TlsReloader | undefined;
  /** How many connections without TLS the auth listener has room for, if there are no others. */
  readonly maxPlainConnections: number;
  readonly limits: ProcessLimits;
  /** From now on answers ask gateways to leave, and readiness says no. */
  drain(): void;
  /** Lets go of the API server and tells what the log held back. */
  close(): Promise<void>;
}

/** The ops listener has connections of its own, so that no flood of the other listeners keeps the kubelet's probes out. */
const OPS_CONNECTIONS = 64;
const OPS_HEADER_BYTES = 8 * 1024;
/** Longer than the interval of most probes and scrapes, in milliseconds. */
const OPS_KEEP_ALIVE_MS = 75_000;

/** The one place that knows the version; the image, the chart and the metric take it from here. */
export const VERSION: string = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8')).version;

/** The floor plan: every part built from the configuration. @throws {TlsFileError} naming what of it cannot be used. */
export async function createApp(config: Config, surroundings: RuntimeEnvironment, log: Logger): Promise<App> {
  const counters = metrics(VERSION);
  const tls = await listenerTls(config, counters, log);
  const decisions = decisionLog(log);
  const handshakes = handshakeLog(log, counters.handshakeFailed);
  const audit = auditLog(log, config.audit);
  const tracing = surroundings.tracing && (await openTracing(surroundings.tracing, log));
  counters.observeOutput(log);
  const limits = processLimits(processMemory(config.memoryLimit), config.cacheMaxEntries);
  const requests = new Budget(limits.transfersBytes, { allowedOnlyShare: ALLOWED_ONLY_SHARE });
  const waiting = new Budget(limits.waitingBytes);
  const pool = new ConnectionPool(limits.connectionsBytes);
  counters.observeBudgets({ connections: pool.budget, transfers: requests, waiting });
  const gate =
    config.mode === 'basic'
      ? createBasicModePipeline(log)
      : createAuthPipeline({ config, surroundings, counters, log, requests: waiting, version: VERSION });
  let draining = false;

  const gateway: GrpcListenerOptions = {
    authorize: gate.authorize,
    answer: createResponseRenderer(config),
    trusted: trustedProxies(config.trustedPeers ?? []),
    clientIpHeader: config.clientIpHeader?.toLowerCase(),
    limitsClients: config.failureLimit !== undefined,
    follow: tracing?.follow ?? audit?.follow,
    tls,
    pool,
    requests,
    maxConnections: config.maxConnections,
    onFault: error => log.error({ err: error }, 'a fault of ours; the request was answered as unavailable'),
    onDecision(decided) {
      counters.decided(decided.protocol, decided.decision, decided.durationMs);
      decisions.record(decided);
      audit?.record(decided);
      tracing?.decided(decided);
    },
  };
  const of = (listener: Protocol) => ({
    onRejected: () => counters.dropped(listener),
    onHandshakeFailure: handshakes.of(listener),
  });
  const grpc = config.grpcListen && (await openGrpc({ ...gateway, ...of('grpc') }));
  gate.health.onReadiness(ready => grpc?.setServing(ready));

  return {
    auth: createHttpListener({ ...gateway, ...of('http'), draining: () => draining }),
    ops: openOps(gate.health, counters),
    grpc,
    health: gate.health,
    decisions,
    tls,
    maxPlainConnections: Math.floor(limits.connectionsBytes / CONNECTION_BYTES.http),
    limits,
    drain() {
      draining = true;
      gate.health.drain();
    },
    async close() {
      tls?.stop();
      decisions.close();
      handshakes.close();
      await gate.close();
      await tracing?.close();
    },
  };
}

function openOps(health: Health, counters: Metrics): FastifyInstance {
  const pool = new ConnectionPool(OPS_CONNECTIONS * CONNECTION_BYTES.http, { minIdleMs: 0 });
  // Twice what its connections can hold of heads, so that none of them is closed for the bytes of another.
  const requests = new Budget(OPS_CONNECTIONS * 128 * 1024);
  return opsServer({
    health,
    metrics: counters,
    listener: handler =>
      httpServer(handler, {
        pool,
        requests,
        maxHeaderBytes: OPS_HEADER_BYTES,
        keepAliveMs: OPS_KEEP_ALIVE_MS,
        onRejected: () => counters.dropped('ops'),
      }).server,
    hasBody: request => connectionOf(request).hasBody,
    onClientError: handleClientError,
  });
}

/** Loaded only where it is asked for. */
async function openTracing(settings: TracingSettings, log: Logger): Promise<Tracing> {
  const tracing = await import('./observability/tracing.ts');
  return tracing.openTracing(settings, VERSION, log);
}

/** Loaded only where it is asked for. */
async function openGrpc(options: GrpcListenerOptions): Promise<GrpcListener> {
  const { createGrpcListener: grpcGateway } = await import('./gateway/grpc/listener.ts');
  return grpcGateway(options);
}
