import t from 'tap';
import { metrics } from '../../src/observability/metrics.ts';
import { authenticatedAs } from '../fixtures/authenticated-result.ts';

t.test('every metric of the contract is exported with its labels', async t => {
  const all = metrics('1.2.3');
  all.recordDecision('http', { kind: 'allow', identity: authenticatedAs().identity }, 1);
  all.recordDecision('grpc', { kind: 'deny', reason: 'token_rejected', detail: '' }, 0.05);
  all.recordDecision(
    'http',
    { kind: 'unavailable', reason: 'overloaded', cause: 'too_many_reviews', retryAfterSeconds: 1 },
    3,
  );
  all.recordLookup('hit_positive');
  all.recordEviction('authenticated', 'capacity');
  all.recordReview('forbidden', 2);
  all.recordQueueTime(0.001);
  all.recordLocalRejection('length');
  all.recordConnectionRejected('grpc');
  all.recordTlsReload('failure');
  all.recordHandshakeFailure('grpc', 'timeout');
  all.observeCertificate(() => 1_800_000_000);
  all.observeOutput({ droppedLines: () => 17, failedWrites: () => 5 });
  all.observeBudgets({
    connections: { limitBytes: 500, usedBytes: 50 },
    transfers: { limitBytes: 400, usedBytes: 40 },
    waiting: { limitBytes: 300, usedBytes: 30 },
  });
  all.recordReviewRejected('unverified', 'queue_full');
  all.recordReviewRejected('unknown', 'waiting_memory_full');
  all.recordReviewRejected('unknown', 'event_loop_lag');
  all.recordRefresh('authenticated');
  all.recordJwksFetch(true);
  all.setGauges({
    entries: () => 3,
    inFlight: () => 2,
    queued: () => 1,
    apiServerUp: () => true,
    reviewLimit: () => 16,
    servingStale: () => false,
    clockSkewMs: () => -1500,
  });
  const text = await all.scrape();
  for (const line of [
    'gatecar_requests_total{protocol="http",decision="allow",reason=""} 1',
    'gatecar_requests_total{protocol="grpc",decision="deny",reason="token_rejected"} 1',
    'gatecar_memory_budget_bytes{budget="connections"} 500',
    'gatecar_memory_budget_bytes{budget="waiting"} 300',
    'gatecar_memory_budget_used_bytes{budget="connections"} 50',
    'gatecar_memory_budget_used_bytes{budget="transfers"} 40',
    'gatecar_memory_budget_used_bytes{budget="waiting"} 30',
    'gatecar_requests_total{protocol="http",decision="unavailable",reason="overloaded"} 1',
    'gatecar_request_duration_seconds_count{decision="allow"} 1',
    'gatecar_request_duration_seconds_bucket{decision="deny",le="0.00005"} 1',
    'gatecar_cache_lookups_total{result="hit_positive"} 1',
    'gatecar_cache_lookups_total{result="miss"} 0',
    'gatecar_cache_entries{store="authenticated"} 3',
    'gatecar_cache_evictions_total{store="authenticated",cause="capacity"} 1',
    'gatecar_reviews_total{outcome="forbidden"} 1',
    'gatecar_review_duration_seconds_sum 0.002',
    'gatecar_reviews_in_flight{priority="unverified"} 2',
    'gatecar_reviews_queued{priority="unverified"} 1',
    'gatecar_local_rejections_total{reason="length"} 1',
    'gatecar_review_queue_duration_seconds_count 1',
    'gatecar_apiserver_up 1',
    'gatecar_clock_skew_seconds -1.5',
    'gatecar_connections_rejected_total{protocol="http"} 0',
    'gatecar_connections_rejected_total{protocol="grpc"} 1',
    'gatecar_tls_handshake_failures_total{protocol="grpc",reason="timeout"} 1',
    'gatecar_tls_handshake_failures_total{protocol="http",reason="plain_http"} 0',
    'gatecar_tls_reloads_total{outcome="success"} 0',
    'gatecar_tls_reloads_total{outcome="failure"} 1',
    'gatecar_tls_certificate_expiration_timestamp_seconds 1800000000',
    'gatecar_log_lines_dropped_total 17',
    'gatecar_log_write_failures_total 5',
    'gatecar_review_concurrency_limit 16',
    'gatecar_reviews_rejected_total{priority="unverified",reason="queue_full"} 1',
    'gatecar_reviews_rejected_total{priority="refresh",reason="queue_timeout"} 0',
    'gatecar_reviews_rejected_total{priority="unknown",reason="waiting_memory_full"} 1',
    'gatecar_reviews_rejected_total{priority="unknown",reason="event_loop_lag"} 1',
    'gatecar_cache_refreshes_total{outcome="authenticated"} 1',
    'gatecar_jwks_fetches_total{outcome="success"} 1',
    'gatecar_jwks_available 1',
    'gatecar_serving_stale 0',
    `gatecar_build_info{version="1.2.3",node="${process.version}"} 1`,
  ]) {
    t.ok(text.split('\n').includes(line), line);
  }
  t.match(text, /^process_resident_memory_bytes \d/m, 'the process metrics of Node');
  t.match(text, /^nodejs_eventloop_lag_seconds /m);
});

t.test('counters that alerts use are exported from 0 for both listeners', async t => {
  const text = await metrics('1').scrape();
  for (const line of [
    'gatecar_requests_total{protocol="http",decision="allow",reason=""} 0',
    'gatecar_requests_total{protocol="http",decision="unavailable",reason="authority_unavailable"} 0',
    'gatecar_requests_total{protocol="grpc",decision="unavailable",reason="overloaded"} 0',
    'gatecar_requests_total{protocol="grpc",decision="deny",reason="namespace_denied"} 0',
    'gatecar_reviews_total{outcome="forbidden"} 0',
    'gatecar_reviews_total{outcome="client_unavailable"} 0',
  ]) {
    t.ok(text.split('\n').includes(line), line);
  }
});

t.test('gauges have no value before their sources are set', async t => {
  const text = await metrics('1').scrape();
  t.notMatch(text, /^gatecar_apiserver_up \d/m);
  t.notMatch(text, /^gatecar_tls_certificate_expiration_timestamp_seconds \d/m);
  t.notMatch(text, /^gatecar_cache_entries\{/m);
  t.notMatch(text, /^gatecar_jwks_available \d/m);
  t.notMatch(text, /^gatecar_memory_budget_\w+\{/m);
});

t.test('during an outage the gauges report API server and JWKS as down and stale serving as active', async t => {
  const all = metrics('1');
  all.setGauges({
    entries: () => 0,
    inFlight: () => 0,
    queued: () => 0,
    apiServerUp: () => false,
    reviewLimit: () => 32,
    servingStale: () => true,
    clockSkewMs: () => undefined,
  });
  all.recordJwksFetch(false);
  const text = await all.scrape();
  t.match(text, /^gatecar_apiserver_up 0$/m);
  t.match(text, /^gatecar_serving_stale 1$/m);
  t.match(text, /^gatecar_jwks_available 0$/m);
});
