import type { AuthResult } from '../../authentication/token-authenticator.ts';
import { type ReviewEvent, tokenReview } from '../../authentication/token-review.ts';
import type { Config } from '../../config/schema.ts';
import { readClaims } from '../../credential/jwt-claims.ts';
import { Token } from '../../credential/token.ts';
import type { KubeApiClient } from '../../kube/api-client.ts';
import { quoteUntrusted } from '../output.ts';
import { type CheckResult, fail, ok } from './check-result.ts';
import { ownName } from './credential.ts';
import { REMEDIATION } from './remediation.ts';

const ACCESS_REVIEW_PATH = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';

export interface ReviewCheckOptions {
  readonly connection: KubeApiClient;
  readonly config: Config;
  /** gatecar's own token, if it has one. */
  readonly token: Token | undefined;
}

/**
 * Checks token reviews: runs a trial review, asks for gatecar's permission to create reviews, and
 * checks that audiences are enforced.
 */
export async function checkReview(options: ReviewCheckOptions): Promise<CheckResult[]> {
  const trial = await review(new Token('gatecar-check'), options);
  const found = [judgeTrial(trial, options.token)];
  const { result } = trial;
  // If the request does not even reach RBAC, further requests would fail the same way.
  if (result.kind === 'unavailable' && result.cause !== 'forbidden') return found;
  found.push(await checkAccess(options));
  if (result.kind === 'rejected') found.push(await checkAudiences(options));
  return found;
}

interface Reviewed {
  readonly result: AuthResult;
  readonly report: ReviewEvent | undefined;
}

async function review(token: Token, { connection, config }: ReviewCheckOptions): Promise<Reviewed> {
  let report: ReviewEvent | undefined;
  const authenticator = tokenReview({
    connection,
    audiences: config.tokenAudiences,
    onReview(one) {
      report = one;
    },
  });
  const result = await authenticator.authenticate(token, { signal: AbortSignal.timeout(config.reviewTimeoutMs) });
  return { result, report };
}

function judgeTrial({ result, report }: Reviewed, token: Token | undefined): CheckResult {
  switch (result.kind) {
    case 'rejected':
      return ok('review', 'test TokenReview succeeded (invalid token rejected, as expected)');
    case 'authenticated':
      return fail(
        'review',
        'an invalid token was accepted: the server at this address accepts any token',
        REMEDIATION['invalid_response'].fix,
      );
    case 'unavailable': {
      const { cause, fix } = REMEDIATION[result.cause];
      const text = `${cause} (${report?.problem})`;
      if (result.cause === 'forbidden') return fail('review', `${ownName(token)}: ${text}`, fix);
      const audiences = token && readClaims(token)?.audiences;
      const ours =
        result.cause === 'unauthorized' && audiences
          ? `; gatecar's is for ${quoteUntrusted(audiences)}, which must be the API server's own`
          : '';
      return fail('review', `${text}${ours}`, fix);
    }
  }
}

/**
 * Asks the API server whether gatecar may create TokenReviews. By default every authenticated user
 * may ask this.
 */
async function checkAccess({ connection, config, token }: ReviewCheckOptions): Promise<CheckResult> {
  const resourceAttributes = { group: 'authentication.k8s.io', resource: 'tokenreviews', verb: 'create' };
  const request = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes },
  };
  const allowed = await accessIn(connection, JSON.stringify(request), config.reviewTimeoutMs);
  if (allowed === undefined)
    return ok('rbac', 'not checked: the API server does not answer SelfSubjectAccessReviews; the test review suffices');
  if (allowed) return ok('rbac', 'gatecar may create TokenReviews');
  const who = ownName(token);
  return fail(
    'rbac',
    `${who} may not create TokenReviews`,
    `kubectl auth can-i create tokenreviews.authentication.k8s.io --as=${who}   # kubectl apply -k rbac/ allows it`,
  );
}

async function accessIn(connection: KubeApiClient, body: string, timeoutMs: number): Promise<boolean | undefined> {
  try {
    const answer = await connection.post(ACCESS_REVIEW_PATH, body, AbortSignal.timeout(timeoutMs));
    const review = answer.status === 201 ? JSON.parse(answer.body) : undefined;
    return review?.status?.allowed;
  } catch {
    // A proxy may allow only TokenReview requests and answer other requests with anything.
    return undefined;
  }
}

/**
 * Checks whether the API server enforces audiences. gatecar's own token is for the API server, so a
 * review for the configured audiences must reject it. An API server that authenticates it without
 * naming an audience does not support audiences, and gatecar then rejects every token.
 */
async function checkAudiences(options: ReviewCheckOptions): Promise<CheckResult> {
  const { tokenAudiences: audiences } = options.config;
  if (audiences.length === 0) return ok('audience', 'none is set: tokens for the API server itself pass');
  const asked = quoteUntrusted(audiences);
  if (options.token === undefined)
    return ok('audience', `one of ${asked} is required; not tested, because gatecar's credential is not a token`);
  const { result, report } = await review(options.token, options);
  switch (result.kind) {
    case 'authenticated':
      return ok('audience', `the API server confirms ${quoteUntrusted(result.identity.audiences)}`);
    case 'rejected':
      return result.reason === 'audience_mismatch'
        ? fail(
            'audience',
            `the server does not support audiences: every token would be rejected, since one of ${asked} is required`,
            'gatecar serve --token-audiences=   # asks for none: read the warning in gatecar --help',
          )
        : ok('audience', `the API server enforces audiences: a token that is not for ${asked} is rejected`);
    case 'unavailable':
      return fail('audience', `${REMEDIATION[result.cause].cause} (${report?.problem})`, REMEDIATION[result.cause].fix);
  }
}
