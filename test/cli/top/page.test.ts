import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { colorizer, marker } from '../../../src/cli/output.ts';
import { intervalOf, type Snapshot } from '../../../src/cli/top/interval.ts';
import { parseMetrics } from '../../../src/cli/top/metrics-text.ts';
import { pageOf } from '../../../src/cli/top/page.ts';
import { metrics } from '../../../src/observability/metrics.ts';

const SAMPLES = `
process_start_time_seconds 1000
gatecar_build_info{version="1.2.3",node="v24.0.0"} 1
gatecar_apiserver_up 1
gatecar_serving_stale 0
gatecar_requests_total{protocol="http",decision="allow",reason=""} 12000
gatecar_requests_total{protocol="grpc",decision="allow",reason=""} 3000
gatecar_requests_total{protocol="http",decision="deny",reason="token_rejected"} 4000
gatecar_requests_total{protocol="http",decision="deny",reason="namespace_denied"} 500
gatecar_requests_total{protocol="http",decision="unavailable",reason="overloaded"} 500
gatecar_request_duration_seconds_bucket{le="0.0001",decision="allow"} 15000
gatecar_request_duration_seconds_bucket{le="+Inf",decision="allow"} 15000
gatecar_request_duration_seconds_bucket{le="0.005",decision="deny"} 0
gatecar_request_duration_seconds_bucket{le="0.01",decision="deny"} 4500
gatecar_request_duration_seconds_bucket{le="+Inf",decision="deny"} 4500
gatecar_request_duration_seconds_bucket{le="2.5",decision="unavailable"} 0
gatecar_request_duration_seconds_bucket{le="5",decision="unavailable"} 500
gatecar_request_duration_seconds_bucket{le="+Inf",decision="unavailable"} 500
gatecar_cache_lookups_total{result="hit_positive"} 900
gatecar_cache_lookups_total{result="hit_negative"} 60
gatecar_cache_lookups_total{result="stale"} 0
gatecar_cache_lookups_total{result="coalesced"} 20
gatecar_cache_lookups_total{result="miss"} 20
gatecar_cache_entries{store="authenticated"} 312
gatecar_cache_entries{store="rejected"} 14
gatecar_reviews_total{outcome="authenticated"} 100
gatecar_reviews_total{outcome="rejected"} 20
gatecar_reviews_total{outcome="timeout"} 0
gatecar_review_duration_seconds_bucket{le="0.5"} 0
gatecar_review_duration_seconds_bucket{le="1"} 100
gatecar_review_duration_seconds_bucket{le="+Inf"} 100
gatecar_review_concurrency_limit 32
gatecar_reviews_in_flight{priority="verified"} 2
gatecar_reviews_queued{priority="verified"} 1
gatecar_reviews_rejected_total{priority="unverified",reason="queue_full"} 30
`;

function page(text: string, isTerminal = false, atSeconds = 1010, earlier?: Snapshot, problem?: string): string {
  const latest = { atMs: atSeconds * 1000, samples: parseMetrics(text) };
  return pageOf(intervalOf(latest, earlier), {
    address: 'http://127.0.0.1:9081',
    nowMs: latest.atMs,
    problem,
    paint: colorizer({ isTerminal }, {}),
    mark: marker({ isTerminal }, {}),
  });
}

t.test('it shows decisions, reasons, hit rate, reviews, latency and priorities', async t => {
  t.equal(
    page(SAMPLES),
    `gatecar 1.2.3 at http://127.0.0.1:9081, up 0 min 10 s; since its start
API server reachable

DECISIONS                      per s       share         p50         p99
allow                        1,500.0      75.0 %     0.05 ms     0.10 ms
deny                           450.0      22.5 %      7.5 ms     10.0 ms
unavailable                     50.0       2.5 %       3.8 s       5.0 s

TOP REASONS                    per s
token_rejected                 400.0
namespace_denied                50.0
overloaded                      50.0

CACHE    hit rate 96.0 %; results: 312 authenticated, 14 rejected
REVIEWS  12.0 per s; p50 750 ms, p99 995 ms; slots 32
         authenticated 10.0, rejected 2.0, failed 0.0 per s

PRIORITY                   in flight      queued  rejected/s
verified                           2           1         0.0
unverified                         0           0         3.0
refresh                            0           0         0.0
`,
  );
});

t.test('every metric that the page reads is exported', async t => {
  const source = readFileSync(join(import.meta.dirname, '../../../src/cli/top/page.ts'), 'utf8');
  const names = new Set(source.match(/\b(gatecar|process)_\w+/g));
  t.ok(names.size >= 14, `${names.size} metrics`);
  const scraped = await metrics('1.2.3').scrape();
  for (const name of names) t.match(scraped, new RegExp(`^# TYPE ${name} `, 'm'), name);
});

t.test('without traffic it shows no shares and no latencies', async t => {
  const earlier = { atMs: 1_000_000, samples: parseMetrics(SAMPLES) };
  const text = page(SAMPLES, false, 1010, earlier);
  t.match(text, '; last 10 s\n');
  t.match(text, /^allow +0\.0 +- +- +-$/m);
  t.match(text, '\nTOP REASONS                    per s\nnone\n');
  t.match(text, '\nCACHE    hit rate -; ');
});

t.test('an unreachable API server, stale results and failed reviews are marked', async t => {
  t.match(
    page(SAMPLES.replace('apiserver_up 1', 'apiserver_up 0'), true),
    '\u001b[31m✗\u001b[0m \u001b[31mAPI server unreachable\u001b[0m\n',
  );
  const stale = SAMPLES.replace('serving_stale 0', 'serving_stale 1');
  t.match(
    page(stale, true),
    '\u001b[33m!\u001b[0m \u001b[33mAPI server unreachable: expired results are served (stale-if-error)\u001b[0m\n',
  );
  const failed = SAMPLES.replace('outcome="timeout"} 0', 'outcome="timeout"} 50');
  t.match(page(failed, true), '\u001b[33mfailed 5.0\u001b[0m per s');
  t.match(page(SAMPLES, true), '\u001b[32mallow ');
  const uneven = SAMPLES.replace('"authenticated"} 100', '"authenticated"} 7');
  t.match(page(uneven, true, 1003.7), 'rejected 5.4, failed 0.0 per s', 'no failure comes from rounding');
});

t.test('a problem takes the place of the state, which is not known any more, and adds no line', async t => {
  const text = page(SAMPLES, true, 1010, undefined, 'cannot read /metrics: HTTP 503');
  t.match(text, 'since its start\n\u001b[31m✗\u001b[0m \u001b[31mcannot read /metrics: HTTP 503\u001b[0m\n\n');
  t.notMatch(text, 'API server');
  t.equal(text.split('\n').length, page(SAMPLES, true).split('\n').length);
});

t.test('the longest page fits a terminal of 24 lines and 80 columns', async t => {
  const reasons = Array.from({ length: 7 }, (_, at) => `gatecar_requests_total{reason="r${at}"} ${at + 1}\n`);
  const lines = page(SAMPLES + reasons.join('')).split('\n');
  t.ok(lines.length <= 24, `${lines.length} lines`);
  for (const line of lines) t.ok(line.length <= 80, line);
});

t.test('the uptime is in the two largest units', async t => {
  const upFor = (seconds: number) => /up ([^;]+);/.exec(page(SAMPLES, false, 1000 + seconds))?.[1];
  t.equal(upFor(59), '0 min 59 s');
  t.equal(upFor(3_700), '1 h 1 min');
  t.equal(upFor(200_000), '2 d 7 h');
  t.equal(upFor(-5), '0 min 0 s');
});

t.test('at most five reasons are listed, and what a metric says is no order to the terminal', async t => {
  const reasons = Array.from({ length: 7 }, (_, at) => `gatecar_requests_total{reason="r${at}\u001b[2J"} ${at + 1}\n`);
  const text = page(reasons.join(''));
  t.strictSame(text.match(/^r\d/gm), ['r6', 'r5', 'r4', 'r3', 'r2']);
  t.notMatch(text, '\u001b');
  t.match(text, /^gatecar {2}at http/);
});
