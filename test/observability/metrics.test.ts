import t from 'tap';
import { metrics } from '../../src/observability/metrics.ts';
import { acceptedAs } from '../fixtures/verdicts.ts';

t.test('every metric of the contract is there, with its labels', async t => {
  const all = metrics('1.2.3');
  all.decided('http', { kind: 'allow', identity: acceptedAs().identity }, 1);
  all.decided('grpc', { kind: 'deny', reason: 'token_rejected', detail: '' }, 0.05);
  all.decided(
    'http',
    { kind: 'unavailable', reason: 'overloaded', cause: 'too many reviews', retryAfterSeconds: 1 },
    3,
  );
  all.recordLookup('hit_positive');
  all.recordEviction('authenticated', 'capacity');
  all.reviewed('forbidden', 2);
  all.recordQueueTime(0.001);
  all.refusedLocally('length');
  all.dropped('grpc');
  all.tlsReloaded('failure');
  all.handshakeFailed('grpc', 'timeout');
  all.observeCertificate(() => 1_800_000_000);
  all.observeOutput({ droppedLines: () => 17, failedWrites: () => 5 });
  all.observeBudgets({
    connections: { limitBytes: 500, usedBytes: 50 },
    transfers: { limitBytes: 400, usedBytes: 40 },
    waiting: { limitBytes: 300, usedBytes: 30 },
  });
  all.recordQueueRejection('unverified', 'queue full');
  all.recordQueueRejection('unknown', 'waiting_memory_full');
  all.recordShed();
  all.recordRefresh('authenticated');
  all.recordJwksFetch(true);
  all.setGauges({
    entries: () => 3,
    inFlight: () => 2,
    queued: () => 1,
    authorityUp: () => true,
    reviewLimit: () => 16,
    graceActive: () => false,
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
    'gatecar_local_refusals_total{check="length"} 1',
    'gatecar_review_queue_seconds_count 1',
    'gatecar_authority_up 1',
    'gatecar_clock_skew_seconds -1.5',
    'gatecar_connections_dropped_total{protocol="http"} 0',
    'gatecar_connections_dropped_total{protocol="grpc"} 1',
    'gatecar_tls_handshake_failures_total{protocol="grpc",reason="timeout"} 1',
    'gatecar_tls_handshake_failures_total{protocol="http",reason="plain_http"} 0',
    'gatecar_tls_reloads_total{outcome="success"} 0',
    'gatecar_tls_reloads_total{outcome="failure"} 1',
    'gatecar_tls_certificate_not_after_seconds 1800000000',
    'gatecar_log_lines_dropped_total 17',
    'gatecar_log_write_failures_total 5',
    'gatecar_review_concurrency_limit 16',
    'gatecar_reviews_not_admitted_total{priority="unverified",cause="queue full"} 1',
    'gatecar_reviews_not_admitted_total{priority="refresh",cause="no turn in time"} 0',
    'gatecar_reviews_not_admitted_total{priority="unknown",cause="waiting_memory_full"} 1',
    'gatecar_reviews_shed_total 1',
    'gatecar_renewals_total{outcome="authenticated"} 1',
    'gatecar_cluster_keys_fetches_total{outcome="success"} 1',
    'gatecar_cluster_keys_readable 1',
    'gatecar_grace_active 0',
    `gatecar_build_info{version="1.2.3",node="${process.version}"} 1`,
  ]) {
    t.ok(text.split('\n').includes(line), line);
  }
  t.match(text, /^process_resident_memory_bytes \d/m, 'the process metrics of Node');
  t.match(text, /^nodejs_eventloop_lag_seconds /m);
});

t.test('what an alert waits for is counted from 0, whatever listener it comes by', async t => {
  const text = await metrics('1').scrape();
  for (const line of [
    'gatecar_requests_total{protocol="http",decision="allow",reason=""} 0',
    'gatecar_requests_total{protocol="http",decision="unavailable",reason="authority_unavailable"} 0',
    'gatecar_requests_total{protocol="grpc",decision="unavailable",reason="overloaded"} 0',
    'gatecar_requests_total{protocol="grpc",decision="deny",reason="namespace_denied"} 0',
    'gatecar_reviews_total{outcome="forbidden"} 0',
    'gatecar_reviews_total{outcome="no client"} 0',
  ]) {
    t.ok(text.split('\n').includes(line), line);
  }
});

t.test('gauges have no value before there is anything to read', async t => {
  const text = await metrics('1').scrape();
  t.notMatch(text, /^gatecar_authority_up \d/m);
  t.notMatch(text, /^gatecar_tls_certificate_not_after_seconds \d/m);
  t.notMatch(text, /^gatecar_cache_entries\{/m);
  t.notMatch(text, /^gatecar_cluster_keys_readable \d/m);
  t.notMatch(text, /^gatecar_memory_budget_\w+\{/m);
});

t.test('an outage is an authority that is not up', async t => {
  const all = metrics('1');
  all.setGauges({
    entries: () => 0,
    inFlight: () => 0,
    queued: () => 0,
    authorityUp: () => false,
    reviewLimit: () => 32,
    graceActive: () => true,
    clockSkewMs: () => undefined,
  });
  all.recordJwksFetch(false);
  const text = await all.scrape();
  t.match(text, /^gatecar_authority_up 0$/m);
  t.match(text, /^gatecar_grace_active 1$/m);
  t.match(text, /^gatecar_cluster_keys_readable 0$/m);
});
