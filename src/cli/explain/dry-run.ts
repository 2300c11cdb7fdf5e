import type { Authority, Verdict } from '../../authentication/token-authenticator.ts';
import { type ClusterKeys, clusterKeys, type KeyCheck } from '../../jwks/cluster-jwks.ts';
import { type ClaimCheck, examined } from '../../authentication/jwt-precheck.ts';
import type { KubeConnection } from '../../kube/api-client.ts';
import { type LocalCheck, prescreened } from '../../authentication/token-screening.ts';
import { type ClockState, comparingClocks, serverClock } from '../../authentication/server-clock.ts';
import { type ReviewReport, tokenReview } from '../../authentication/token-review.ts';
import { authorizeAnybody, authorizeWith } from '../../authorize.ts';
import type { Config } from '../../config/schema.ts';
import type { Credential } from '../../credential/authorization-header.ts';
import type { Decision } from '../../decision/decision.ts';
import type { Surroundings } from '../../kube/endpoint-selection.ts';
import { openConnection, policyOf } from '../../auth-pipeline.ts';
import { watchClock } from '../check/clock-skew.ts';

/** What one question met on its way. */
export interface Walk {
  readonly decision: Decision;
  /** The local check that refused; `undefined` where none did. */
  readonly refusedBy: LocalCheck | ClaimCheck | undefined;
  /** What the cluster publishes; `undefined` where it was not wanted, or nobody was to be asked. */
  readonly keys: ClusterKeys | undefined;
  /** What they say of the token's signature. */
  readonly signature: KeyCheck | undefined;
  /** Why that could not be had. */
  readonly keysProblem: string | undefined;
  /** The API server's own verdict; `undefined` where it was not asked. */
  readonly verdict: Verdict | undefined;
  readonly report: ReviewReport | undefined;
  /** How far our clock is ahead of the API server's, in milliseconds. */
  readonly aheadMs: number | undefined;
  /** Whether the clocks agreed when the token's times were checked. */
  readonly clockState: ClockState;
}

export interface WalkOptions {
  readonly config: Config;
  readonly surroundings: Surroundings;
  readonly version: string;
  readonly wallClock: () => number;
}

const NOBODY_ASKED: Omit<Walk, 'decision'> = {
  ...{ refusedBy: undefined, keys: undefined, keysProblem: undefined, signature: undefined },
  ...{ verdict: undefined, report: undefined, aheadMs: undefined, clockState: 'unknown' },
};

/**
 * Sends one credential down the corridor of `review-gate.ts`, through the same parts. What is about many questions and
 * their order (cache, limits, lanes) is left out: it has nothing to say about one.
 */
export async function walkCorridor(credential: Credential, options: WalkOptions): Promise<Walk> {
  const { config, surroundings, version, wallClock } = options;
  if (config.mode === 'basic') return { ...NOBODY_ASKED, decision: await authorizeAnybody(credential) };
  const clock = watchClock(openConnection(config, surroundings, version), wallClock);
  const apiClock = serverClock({ wallClock });
  const connection = comparingClocks(clock.connection, apiClock);
  try {
    const { keys, problem } = credential.kind === 'token' ? await publishedKeys(config, connection) : {};
    const clockState = apiClock.state;
    const signature = credential.kind === 'token' ? await keys?.verify(credential.token) : undefined;
    const seen: { refusedBy?: LocalCheck | ClaimCheck; verdict?: Verdict; report?: ReviewReport } = {};
    const onRefusal = (check: LocalCheck | ClaimCheck) => {
      seen.refusedBy = check;
    };
    const { tokenAudiences: audiences, localChecks, opaqueTokens, reviewTimeoutMs } = config;
    const onReview = (report: ReviewReport) => {
      seen.report = report;
    };
    const asking = tokenReview({ connection, audiences, onReview });
    const noting: Authority = {
      async review(token) {
        seen.verdict = await asking.review(token, { signal: AbortSignal.timeout(reviewTimeoutMs) });
        return seen.verdict;
      },
    };
    const signatures = localChecks === 'signature';
    const examining = keys
      ? examined(noting, { keys, clock: apiClock, audiences, signatures, onRefusal, wallClock })
      : noting;
    const authority = prescreened(examining, { opaqueTokens, onRefusal });
    const decision = await authorizeWith(authority, policyOf(config))(credential);
    return {
      ...NOBODY_ASKED,
      ...seen,
      decision,
      keys,
      keysProblem: problem,
      signature,
      aheadMs: clock.aheadMs,
      clockState,
    };
  } finally {
    await connection.close();
  }
}

/** Asks for what the cluster publishes, and waits for it, which the server does not: there is one question only. */
async function publishedKeys(
  { localChecks, reviewTimeoutMs }: Config,
  connection: KubeConnection,
): Promise<{ keys?: ClusterKeys; problem?: string | undefined }> {
  if (localChecks === 'off') return {};
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const get = (path: string) => connection.get(path, AbortSignal.timeout(reviewTimeoutMs));
  const keys = clusterKeys({
    get,
    withKeys: localChecks === 'signature',
    maxWaitMs: reviewTimeoutMs,
    onFetch: resolve,
  });
  keys.refresh();
  return { keys, problem: await promise };
}
