import t, { type Test } from 'tap';
import { type RequestTrace, unavailable } from '../../src/authentication/token-authenticator.ts';
import { type ReviewEvent, TOKEN_REVIEW_PATH, tokenReview } from '../../src/authentication/token-review.ts';
import { revealToken } from '../../src/credential/token.ts';
import { createKubeApiClient, type KubeApiClient } from '../../src/kube/api-client.ts';
import { explicitEndpoint } from '../../src/kube/endpoint.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { leaked } from '../fixtures/find-token.ts';
import { accepts, answers, type Behaviour, hangs, reviews, startStandIn } from '../fixtures/stand-in-api-server.ts';
import { unsignedJwt } from '../fixtures/unsigned-jwt.ts';

const token = unsignedJwt({ sub: 'system:serviceaccount:default:my-app' });

async function startReviews(t: Test, behaviour: Behaviour, audiences: readonly string[] = ['bindcar']) {
  const api = await startStandIn(behaviour);
  const source = async () => explicitEndpoint({ url: api.url, tokenFile: undefined, caFile: undefined });
  const connection = createKubeApiClient({ source, maxConnections: 4, userAgent: 'gatecar/test' });
  t.teardown(() => connection.close());
  t.teardown(() => api.close());
  const reports: ReviewEvent[] = [];
  const authenticator = tokenReview({ connection, audiences, onReview: report => reports.push(report) });
  return { api, authenticator, reports, connection };
}

t.test('a TokenReview request contains only the token and the audiences', async t => {
  const { api, authenticator, reports } = await startReviews(t, accepts(), ['bindcar', 'second']);
  t.match(await authenticator.authenticate(token), { kind: 'authenticated', identity: { audiences: ['bindcar'] } });
  t.equal(api.requests[0]?.path, TOKEN_REVIEW_PATH);
  t.strictSame(JSON.parse(api.requests[0]?.body ?? ''), {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token: revealToken(token), audiences: ['bindcar', 'second'] },
  });
  t.match(reports, [{ outcome: 'authenticated', problem: undefined, priority: 'unverified' }]);
});

t.test('a TokenReview request has no audiences if none are configured', async t => {
  const { api, authenticator } = await startReviews(t, accepts(), []);
  await authenticator.authenticate(token);
  t.strictSame(JSON.parse(api.requests[0]?.body ?? '').spec, { token: revealToken(token) });
});

t.test('a rejection is reported as an outcome without a problem', async t => {
  const { authenticator, reports } = await startReviews(t, reviews({ error: 'invalid bearer token' }));
  t.match(await authenticator.authenticate(token), { kind: 'rejected', reason: 'token_rejected' });
  t.match(reports, [{ outcome: 'rejected', problem: undefined }]);
});

t.test('an unusable response is reported with its cause and HTTP status', async t => {
  const { api, authenticator, reports } = await startReviews(t, answers(429, 'slow down', { 'retry-after': '7' }));
  t.strictSame(await authenticator.authenticate(token), unavailable('too_many_requests', 7));
  api.behaviour = answers(200, '<html>');
  t.strictSame(await authenticator.authenticate(token), unavailable('invalid_response'));
  t.match(reports, [
    { outcome: 'too_many_requests', problem: 'too many requests (HTTP 429)' },
    { outcome: 'invalid_response', problem: 'not a TokenReview (HTTP 200)' },
  ]);
});

t.test('a review that exceeds its deadline is unavailable with cause timeout', async t => {
  const { authenticator, reports } = await startReviews(t, hangs);
  t.strictSame(await authenticator.authenticate(token, { signal: AbortSignal.timeout(50) }), unavailable('timeout'));
  t.match(reports, [{ outcome: 'timeout' }]);
});

t.test('an unreachable API server is unavailable, and reviews succeed again after it restarts', async t => {
  const { api, authenticator, reports } = await startReviews(t, accepts());
  await api.close();
  t.strictSame(await authenticator.authenticate(token), unavailable('connection_refused'));
  t.match(reports, [{ outcome: 'connection_refused', problem: 'connection refused (ECONNREFUSED)' }]);
  const restarted = await startStandIn(accepts(), Number(new URL(api.url).port));
  t.teardown(() => restarted.close());
  t.match(await authenticator.authenticate(token), { kind: 'authenticated' });
});

t.test('an unexpected error is unavailable and reported without the error’s text', async t => {
  const reports: ReviewEvent[] = [];
  const connection: Pick<KubeApiClient, 'post'> = {
    post: async () => {
      throw new Error(`cannot send ${revealToken(token)}`);
    },
  };
  const authenticator = tokenReview({ connection, audiences: [], onReview: report => reports.push(report) });
  t.strictSame(await authenticator.authenticate(token), unavailable('internal_error'));
  t.match(reports, [{ outcome: 'internal_error', problem: 'internal error' }]);
  t.equal(leaked(JSON.stringify(reports), [revealToken(token)]), undefined);
});

t.test('a review report has the duration and the priority', async t => {
  const clock = fakeClock();
  const connection: Pick<KubeApiClient, 'post'> = {
    async post() {
      clock.advance(42);
      return { status: 503, body: '', retryAfterSeconds: undefined };
    },
  };
  const reports: ReviewEvent[] = [];
  const onReview = (report: ReviewEvent) => reports.push(report);
  await tokenReview({ connection, audiences: [], onReview, now: clock.now }).authenticate(token, {
    priority: 'verified',
  });
  t.match(reports, [{ durationMs: 42, priority: 'verified' }]);
});

t.test('token review works without an onReview callback', async t => {
  const { connection } = await startReviews(t, accepts());
  t.match(await tokenReview({ connection, audiences: ['bindcar'] }).authenticate(token), { kind: 'authenticated' });
});

t.test('the trace of a reviewed request has the source review', async t => {
  const { authenticator } = await startReviews(t, answers(500, ''));
  const trace: RequestTrace = { source: 'local' };
  t.match(await authenticator.authenticate(token, { trace }), { kind: 'unavailable' });
  t.equal(trace.source, 'review');
});

t.test('a traced review sends the headers of its span and ends the span with its outcome', async t => {
  const { api, authenticator } = await startReviews(t, reviews({ error: 'no' }));
  const outcomes: string[] = [];
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
  const trace: RequestTrace = {
    source: 'local',
    startReviewSpan: () => ({ headers: { traceparent }, end: outcome => outcomes.push(outcome) }),
  };
  await authenticator.authenticate(token, { trace });
  t.equal(api.requests[0]?.headers['traceparent'], traceparent);
  api.behaviour = answers(500, '');
  await authenticator.authenticate(token, { trace });
  t.strictSame(outcomes, ['rejected', 'server_error']);
});
