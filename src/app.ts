import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Config } from './config/schema.ts';
import type { TracingSettings } from './config/tracing-settings.ts';
import type { Surroundings } from './endpoint-source.ts';
import { answerer } from './gateway/answer.ts';
import type { Protocol } from './gateway/decided.ts';
import { trustedPeers } from './gateway/forwarded.ts';
import type { GrpcGateway, GrpcGatewayOptions } from './gateway/grpc.ts';
import { httpGateway } from './gateway/http.ts';
import { auditLog } from './operations/audit-log.ts';
import { type DecisionLog, decisionLog } from './operations/decision-log.ts';
import { handshakeLog } from './operations/handshake-log.ts';
import type { Health } from './operations/health.ts';
import { type FollowedTls, listenerTls } from './operations/listener-tls.ts';
import type { Logger } from './operations/log.ts';
import { metrics } from './operations/metrics.ts';
import { opsServer } from './operations/ops-server.ts';
import type { Tracing } from './operations/tracing.ts';
import { openGate, reviewGate } from './review-gate.ts';

/** All parts, wired and not yet listening. */
export interface App {
  readonly auth: FastifyInstance;
  readonly ops: FastifyInstance;
  /** `undefined` where it is not asked for. */
  readonly grpc: GrpcGateway | undefined;
  readonly health: Health;
  readonly decisions: DecisionLog;
  /** `undefined` where the listeners are plain. */
  readonly tls: FollowedTls | undefined;
  /** From now on answers ask gateways to leave, and readiness says no. */
  drain(): void;
  /** Lets go of the API server and tells what the log held back. */
  close(): Promise<void>;
}

/** The one place that knows the version; the image, the chart and the metric take it from here. */
export const VERSION: string = JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8')).version;

/** The floor plan: every part built from the configuration. @throws {TlsFileError} naming what of it cannot be used. */
export async function createApp(config: Config, surroundings: Surroundings, log: Logger): Promise<App> {
  const counters = metrics(VERSION);
  const tls = await listenerTls(config, counters, log);
  const decisions = decisionLog(log);
  const handshakes = handshakeLog(log, counters.handshakeFailed);
  const audit = auditLog(log, config.audit);
  const tracing = surroundings.tracing && (await openTracing(surroundings.tracing, log));
  counters.observeOutput(log);
  const gate =
    config.mode === 'basic' ? openGate(log) : reviewGate({ config, surroundings, counters, log, version: VERSION });
  let draining = false;

  const gateway: GrpcGatewayOptions = {
    authorize: gate.authorize,
    answer: answerer(config),
    trusted: trustedPeers(config.trustedPeers ?? []),
    clientIpHeader: config.clientIpHeader?.toLowerCase(),
    limitsClients: config.failureLimit !== undefined,
    follow: tracing?.follow ?? audit?.follow,
    tls,
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
    onDropped: () => counters.dropped(listener),
    onHandshakeFailure: handshakes.of(listener),
  });
  const grpc = config.grpcListen && (await openGrpc({ ...gateway, ...of('grpc') }));
  gate.health.onReadiness(ready => grpc?.setServing(ready));

  return {
    auth: httpGateway({ ...gateway, ...of('http'), draining: () => draining }),
    ops: opsServer(gate.health, counters),
    grpc,
    health: gate.health,
    decisions,
    tls,
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

/** Loaded only where it is asked for. */
async function openTracing(settings: TracingSettings, log: Logger): Promise<Tracing> {
  const tracing = await import('./operations/tracing.ts');
  return tracing.openTracing(settings, VERSION, log);
}

/** Loaded only where it is asked for. */
async function openGrpc(options: GrpcGatewayOptions): Promise<GrpcGateway> {
  const { grpcGateway } = await import('./gateway/grpc.ts');
  return grpcGateway(options);
}
