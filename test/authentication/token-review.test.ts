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

async function reviewing(t: Test, behaviour: Behaviour, audiences: readonly string[] = ['bindcar']) {
  const api = await startStandIn(behaviour);
  const source = async () => explicitEndpoint({ url: api.url, tokenFile: undefined, caFile: undefined });
  const connection = createKubeApiClient({ source, maxConnections: 4, userAgent: 'gatecar/test' });
  t.teardown(() => connection.close());
  t.teardown(() => api.close());
  const reports: ReviewEvent[] = [];
  const authority = tokenReview({ connection, audiences, onReview: report => reports.push(report) });
  return { api, authority, reports, connection };
}

t.test('the API server is asked with the token and the audiences, and nothing else', async t => {
  const { api, authority, reports } = await reviewing(t, accepts(), ['bindcar', 'second']);
  t.match(await authority.authenticate(token), { kind: 'authenticated', identity: { audiences: ['bindcar'] } });
  t.equal(api.requests[0]?.path, TOKEN_REVIEW_PATH);
  t.strictSame(JSON.parse(api.requests[0]?.body ?? ''), {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token: revealToken(token), audiences: ['bindcar', 'second'] },
  });
  t.match(reports, [{ outcome: 'authenticated', problem: undefined, priority: 'unverified' }]);
});

t.test('without audiences none are asked for', async t => {
  const { api, authority } = await reviewing(t, accepts(), []);
  await authority.authenticate(token);
  t.strictSame(JSON.parse(api.requests[0]?.body ?? '').spec, { token: revealToken(token) });
});

t.test('a refusal is an outcome and no problem', async t => {
  const { authority, reports } = await reviewing(t, reviews({ error: 'invalid bearer token' }));
  t.match(await authority.authenticate(token), { kind: 'rejected', reason: 'token_rejected' });
  t.match(reports, [{ outcome: 'rejected', problem: undefined }]);
});

t.test('an answer that is no result is reported by class and status', async t => {
  const { api, authority, reports } = await reviewing(t, answers(429, 'slow down', { 'retry-after': '7' }));
  t.strictSame(await authority.authenticate(token), unavailable('too_many_requests', 7));
  api.behaviour = answers(200, '<html>');
  t.strictSame(await authority.authenticate(token), unavailable('invalid_response'));
  t.match(reports, [
    { outcome: 'too_many_requests', problem: 'too many requests (HTTP 429)' },
    { outcome: 'invalid_response', problem: 'not a TokenReview (HTTP 200)' },
  ]);
});

t.test('a review that has had its time is a timeout', async t => {
  const { authority, reports } = await reviewing(t, hangs);
  t.strictSame(await authority.authenticate(token, { signal: AbortSignal.timeout(50) }), unavailable('timeout'));
  t.match(reports, [{ outcome: 'timeout' }]);
});

t.test('an API server that is not there is an outage, and a recovery needs nothing', async t => {
  const { api, authority, reports } = await reviewing(t, accepts());
  await api.close();
  t.strictSame(await authority.authenticate(token), unavailable('connection_refused'));
  t.match(reports, [{ outcome: 'connection_refused', problem: 'connection refused (ECONNREFUSED)' }]);
  const back = await startStandIn(accepts(), Number(new URL(api.url).port));
  t.teardown(() => back.close());
  t.match(await authority.authenticate(token), { kind: 'authenticated' });
});

t.test('an error nobody foresaw is an outage too, and told in our own words', async t => {
  const reports: ReviewEvent[] = [];
  const connection: Pick<KubeApiClient, 'post'> = {
    post: async () => {
      throw new Error(`cannot send ${revealToken(token)}`);
    },
  };
  const authority = tokenReview({ connection, audiences: [], onReview: report => reports.push(report) });
  t.strictSame(await authority.authenticate(token), unavailable('internal_error'));
  t.match(reports, [{ outcome: 'internal_error', problem: 'internal error' }]);
  t.equal(leaked(JSON.stringify(reports), [revealToken(token)]), undefined);
});

t.test('a report says how long the review took, and in which priority', async t => {
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

t.test('nobody has to listen to reports', async t => {
  const { connection } = await reviewing(t, accepts());
  t.match(await tokenReview({ connection, audiences: ['bindcar'] }).authenticate(token), { kind: 'authenticated' });
});

t.test('a trail learns that the API server was asked', async t => {
  const { authority } = await reviewing(t, answers(500, ''));
  const trail: RequestTrace = { source: 'local' };
  t.match(await authority.authenticate(token, { trail }), { kind: 'unavailable' });
  t.equal(trail.source, 'review');
});

t.test('a review that is traced has its span’s headers, and ends it with its outcome', async t => {
  const { api, authority } = await reviewing(t, reviews({ error: 'no' }));
  const outcomes: string[] = [];
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
  const trail: RequestTrace = {
    source: 'local',
    startReviewSpan: () => ({ headers: { traceparent }, end: outcome => outcomes.push(outcome) }),
  };
  await authority.authenticate(token, { trail });
  t.equal(api.requests[0]?.headers['traceparent'], traceparent);
  api.behaviour = answers(500, '');
  await authority.authenticate(token, { trail });
  t.strictSame(outcomes, ['rejected', 'server_error']);
});
