import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { admitted } from './authority/admitted.ts';
import type { Accepted, Authority, Refused } from './authority/authority.ts';
import { cached } from './authority/cached.ts';
import { inClusterEndpoint, kubeConfigEndpoint } from './authority/kube-config.ts';
import { type KubeConnection, kubeConnection } from './authority/kube-connection.ts';
import { EndpointError, type EndpointSource, explicitEndpoint } from './authority/kube-endpoint.ts';
import { prescreened } from './authority/prescreened.ts';
import { tokenReview } from './authority/token-review.ts';
import { authorizeAnybody, authorizeWith } from './authorize.ts';
import { cacheKeys } from './cache/key.ts';
import { verdictStore } from './cache/verdict-store.ts';
import { type Config, IN_CLUSTER_CA_FILE, IN_CLUSTER_TOKEN_FILE } from './config/schema.ts';
import { Token } from './credential/token.ts';
import { answerer } from './gateway/answer.ts';
import { trustedPeers } from './gateway/forwarded.ts';
import type { GrpcGateway, GrpcGatewayOptions } from './gateway/grpc.ts';
import { httpGateway } from './gateway/http.ts';
import { type DecisionLog, decisionLog } from './operations/decision-log.ts';
import { type Health, health } from './operations/health.ts';
import { type FollowedTls, listenerTls } from './operations/listener-tls.ts';
import type { Logger } from './operations/log.ts';
import { type Metrics, metrics } from './operations/metrics.ts';
import { opsServer } from './operations/ops-server.ts';

/** Facts about where we run that are no settings. */
export interface Surroundings {
  /** Whether the kubelet's environment names an API server. */
  readonly inCluster: boolean;
  /** For `~/.kube/config`. */
  readonly homeDirectory: string | undefined;
}

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
  const gate = config.mode === 'basic' ? openGate(log) : reviewGate(config, surroundings, counters, log);
  let draining = false;

  const gateway: GrpcGatewayOptions = {
    authorize: gate.authorize,
    answer: answerer(config),
    trusted: trustedPeers(config.trustedPeers ?? []),
    clientIpHeader: config.clientIpHeader?.toLowerCase(),
    tls,
    maxConnections: config.maxConnections,
    onFault: error => log.error({ err: error }, 'a fault of ours; the request was answered as unavailable'),
    onDecision(decided) {
      counters.decided(decided.protocol, decided.decision, decided.durationMs);
      decisions.record(decided);
    },
  };
  const grpc = config.grpcListen && (await openGrpc({ ...gateway, onDropped: () => counters.dropped('grpc') }));
  gate.health.onReadiness(ready => grpc?.setServing(ready));

  return {
    auth: httpGateway({ ...gateway, onDropped: () => counters.dropped('http'), draining: () => draining }),
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
      gate.health.stop();
      tls?.stop();
      decisions.close();
      await gate.connection?.close();
    },
  };
}

/** Loaded only where it is asked for: the library and its messages cost a fifth of the memory at rest. */
async function openGrpc(options: GrpcGatewayOptions): Promise<GrpcGateway> {
  const { grpcGateway } = await import('./gateway/grpc.ts');
  return grpcGateway(options);
}

interface Gate {
  readonly authorize: Parameters<typeof httpGateway>[0]['authorize'];
  readonly health: Health;
  readonly connection: KubeConnection | undefined;
}

function openGate(log: Logger): Gate {
  return { authorize: authorizeAnybody, health: health({ log, probe: undefined }), connection: undefined };
}

function reviewGate(config: Config, surroundings: Surroundings, counters: Metrics, log: Logger): Gate {
  const { tokenAudiences: audiences, reviewTimeoutMs } = config;
  const connection = kubeConnection({
    source: () => endpointSource(config, surroundings),
    maxConnections: config.reviewMaxConcurrency,
    headers: config.kubeHeaders ?? {},
    userAgent: `gatecar/${VERSION}`,
  });
  const asking: Authority = tokenReview({
    connection,
    audiences,
    onReview(review) {
      counters.reviewed(review.outcome, review.durationMs);
      watch.reviewed(review);
    },
  });
  const admission = admitted(asking, {
    maxConcurrency: config.reviewMaxConcurrency,
    maxQueue: config.reviewMaxQueue,
    maxWaitMs: reviewTimeoutMs / 2,
    onAdmitted: counters.queuedFor,
  });
  const maxEntries = config.cacheMaxEntries;
  const accepted = verdictStore<Accepted>({ maxEntries, onEviction: cause => counters.evicted('accepted', cause) });
  const refused = verdictStore<Refused>({ maxEntries, onEviction: cause => counters.evicted('refused', cause) });
  const remembering = cached(admission, {
    key: cacheKeys(audiences),
    accepted,
    refused,
    ttlMs: config.cacheTtlMs,
    negativeTtlMs: config.cacheNegativeTtlMs,
    reviewTimeoutMs,
    onLookup: counters.looked,
  });
  const authority = prescreened(remembering, {
    opaqueTokens: config.opaqueTokens,
    onRefusal: counters.refusedLocally,
  });

  // Nobody's token: all that is of interest is whether it can be asked about.
  const nobody = new Token('gatecar-readiness-probe');
  const watch = health({
    log,
    probe: async () => asking.review(nobody, { signal: AbortSignal.timeout(reviewTimeoutMs) }),
  });
  counters.observe({
    entries: store => (store === 'accepted' ? accepted : refused).size,
    inFlight: () => admission.inFlight,
    queued: () => admission.queued,
    authorityUp: () => watch.authorityUp,
  });
  const policy = {
    allowedNamespaces: config.allowedNamespaces && new Set(config.allowedNamespaces),
    allowedServiceAccounts: config.allowedServiceAccounts && new Set(config.allowedServiceAccounts),
  };
  return { authorize: authorizeWith(authority, policy), health: watch, connection };
}

/** An explicit address, else a named kubeconfig, else the pod's own credentials, else the user's kubeconfig. */
async function endpointSource(config: Config, { inCluster, homeDirectory }: Surroundings): Promise<EndpointSource> {
  const {
    kubeApiUrl: url,
    kubeConfigFiles,
    kubeContext: context,
    kubeTokenFile: tokenFile,
    kubeCaFile: caFile,
  } = config;
  if (url !== undefined) {
    // A proxy over plain http adds its own credential, which ours would replace.
    const own = url.startsWith('https:') && inCluster;
    return explicitEndpoint({
      url,
      tokenFile: tokenFile ?? (own ? IN_CLUSTER_TOKEN_FILE : undefined),
      caFile: caFile ?? (own ? IN_CLUSTER_CA_FILE : undefined),
    });
  }
  if (kubeConfigFiles !== undefined) return kubeConfigEndpoint({ files: kubeConfigFiles, context, tokenFile, caFile });
  if (inCluster && context === undefined) {
    return inClusterEndpoint(tokenFile ?? IN_CLUSTER_TOKEN_FILE, caFile ?? IN_CLUSTER_CA_FILE);
  }
  if (homeDirectory === undefined) {
    throw new EndpointError('no API server is known: set GATECAR_KUBECONFIG or GATECAR_KUBE_API_URL');
  }
  return kubeConfigEndpoint({ files: [join(homeDirectory, '.kube/config')], context, tokenFile, caFile });
}
