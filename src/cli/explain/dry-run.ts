import { type ClaimCheck, withJwtPrecheck } from '../../authentication/jwt-precheck.ts';
import { type ClockState, comparingClocks, serverClock } from '../../authentication/server-clock.ts';
import type { AuthResult, TokenAuthenticator } from '../../authentication/token-authenticator.ts';
import { type ReviewEvent, tokenReview } from '../../authentication/token-review.ts';
import { type ScreeningCheck, withTokenScreening } from '../../authentication/token-screening.ts';
import { authorizeFormatOnly, createAuthorizer } from '../../authorize.ts';
import type { Config } from '../../config/schema.ts';
import type { Credential } from '../../credential/authorization-header.ts';
import type { Decision } from '../../decision/decision.ts';
import { type ClusterJwks, createClusterJwks, type KeyCheckResult } from '../../jwks/cluster-jwks.ts';
import type { KubeApiClient } from '../../kube/api-client.ts';
import { createApiClient, type RuntimeEnvironment } from '../../kube/endpoint-selection.ts';
import { createPolicy } from '../../policy/policy.ts';
import { measureClockSkew } from '../check/clock-skew.ts';

/** The results of each stage for one credential. */
export interface DryRun {
  readonly decision: Decision;
  /** The local check that rejected the token; `undefined` if none did. */
  readonly rejectedBy: ScreeningCheck | ClaimCheck | undefined;
  /**
   * The cluster's published issuer and JWKS. `undefined` if local checks are off or the API server
   * is not needed.
   */
  readonly keys: ClusterJwks | undefined;
  /** The result of checking the token's signature with these keys. */
  readonly signature: KeyCheckResult | undefined;
  /** Why the issuer or the JWKS could not be fetched. */
  readonly keysProblem: string | undefined;
  /** The authentication result of the API server; `undefined` if it was not called. */
  readonly result: AuthResult | undefined;
  readonly report: ReviewEvent | undefined;
  /** How far gatecar's clock is ahead of the API server's, in milliseconds. */
  readonly aheadMs: number | undefined;
  /** Whether the clocks agreed when the token's times were checked. */
  readonly clockState: ClockState;
}

export interface DryRunOptions {
  readonly config: Config;
  readonly runtimeEnvironment: RuntimeEnvironment;
  readonly version: string;
  readonly wallClock: () => number;
}

const NOT_REVIEWED: Omit<DryRun, 'decision'> = {
  rejectedBy: undefined,
  keys: undefined,
  keysProblem: undefined,
  signature: undefined,
  result: undefined,
  report: undefined,
  aheadMs: undefined,
  clockState: 'unknown',
};

/**
 * Runs one credential through the stages of `auth-pipeline.ts`. The cache, the limits and the
 * priorities are left out, since they affect only concurrent or repeated requests.
 */
export async function dryRun(credential: Credential, options: DryRunOptions): Promise<DryRun> {
  const { config, runtimeEnvironment, version, wallClock } = options;
  if (config.mode === 'format-only') return { ...NOT_REVIEWED, decision: await authorizeFormatOnly(credential) };
  const clock = measureClockSkew(createApiClient(config, runtimeEnvironment, version), wallClock);
  const apiClock = serverClock({ wallClock });
  const connection = comparingClocks(clock.connection, apiClock);
  try {
    const { keys, problem } = credential.kind === 'token' ? await fetchJwks(config, connection) : {};
    const clockState = apiClock.state;
    const signature = credential.kind === 'token' ? await keys?.verify(credential.token) : undefined;
    const seen: { rejectedBy?: ScreeningCheck | ClaimCheck; result?: AuthResult; report?: ReviewEvent } = {};
    const onRejection = (check: ScreeningCheck | ClaimCheck) => {
      seen.rejectedBy = check;
    };
    const { tokenAudiences: audiences, jwtPrecheck, opaqueTokens, reviewTimeoutMs } = config;
    const onReview = (report: ReviewEvent) => {
      seen.report = report;
    };
    const authenticator = tokenReview({ connection, audiences, onReview });
    const recorded: TokenAuthenticator = {
      async authenticate(token) {
        seen.result = await authenticator.authenticate(token, { signal: AbortSignal.timeout(reviewTimeoutMs) });
        return seen.result;
      },
    };
    const signatures = jwtPrecheck === 'signature';
    const prechecked = keys
      ? withJwtPrecheck(recorded, { keys, clock: apiClock, audiences, signatures, onViolation: onRejection, wallClock })
      : recorded;
    const screened = withTokenScreening(prechecked, { opaqueTokens, onRejection });
    const decision = await createAuthorizer(screened, createPolicy(config))(credential);
    return {
      ...NOT_REVIEWED,
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

/**
 * Fetches the cluster's issuer and JWKS and waits for them. The server does not wait, but this
 * command handles only one token.
 */
async function fetchJwks(
  { jwtPrecheck, reviewTimeoutMs }: Config,
  connection: KubeApiClient,
): Promise<{ keys?: ClusterJwks; problem?: string | undefined }> {
  if (jwtPrecheck === 'off') return {};
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const get = (path: string) => connection.get(path, AbortSignal.timeout(reviewTimeoutMs));
  const keys = createClusterJwks({
    get,
    withKeys: jwtPrecheck === 'signature',
    maxWaitMs: reviewTimeoutMs,
    onFetch: resolve,
  });
  keys.refresh();
  return { keys, problem: await promise };
}
