/** One query of a panel; `legend` names its series by their labels. */
export interface Query {
  readonly expr: string;
  readonly legend: string;
}

/** A panel: what it shows, its unit in Grafana's notation, and how to read it. */
export interface DashboardPanel {
  readonly title: string;
  readonly description: string;
  readonly unit: string;
  readonly queries: readonly Query[];
  /** Whether to stack the series, because they add up to a whole. */
  readonly stacked?: boolean;
  /** Shows one number instead of a curve; each colour applies from its value upwards. */
  readonly number?: readonly (readonly [from: number, colour: string])[];
  /** Texts shown instead of these values. */
  readonly words?: Readonly<Record<string, string>>;
}

export interface Row {
  readonly title: string;
  readonly panels: readonly DashboardPanel[];
}

/** Restricts a query to the instances selected in the dashboard's variables. */
const CHOSEN = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"';

const of = (metric: string, labels = '') => `${metric}{${labels}${labels && ', '}${CHOSEN}}`;
const rate = (metric: string, labels = '') => `rate(${of(metric, labels)}[$__rate_interval])`;
const sumBy = (by: string, what: string) => `sum by (${by}) (${what})`;
const quantile = (q: number, by: string, histogram: string) =>
  `histogram_quantile(${q}, sum by (${[by, 'le'].filter(Boolean).join(', ')}) (${rate(`${histogram}_bucket`)}))`;
/** Computes a share; it is 0 if there are no requests. */
const share = (part: string, whole: string) => `(sum(${part}) / (sum(${whole}) > 0)) or vector(0)`;

const requests = 'gatecar_requests_total';
const lookups = 'gatecar_cache_lookups_total';

const GOOD_OR_BAD = [
  [0, 'red'],
  [1, 'green'],
] as const;

/** All rows of the dashboard, from the top. */
export const ROWS: readonly Row[] = [
  {
    title: 'Overview',
    panels: [
      {
        title: 'API server',
        description: 'Whether the API server answered the last TokenReview of every gatecar.',
        unit: 'none',
        queries: [{ expr: `min(${of('gatecar_apiserver_up')})`, legend: 'up' }],
        number: GOOD_OR_BAD,
        words: { 0: 'unreachable', 1: 'up' },
      },
      {
        title: 'Unavailable (503)',
        description:
          'Requests that gatecar could not decide because of an outage or overload. Never a statement about a token.',
        unit: 'percentunit',
        queries: [{ expr: share(rate(requests, 'decision="unavailable"'), rate(requests)), legend: 'unavailable' }],
        number: [
          [0, 'green'],
          [0.01, 'orange'],
          [0.05, 'red'],
        ],
      },
      {
        title: 'Denied',
        description: 'Requests denied because of their credential. The usual share depends on the clients.',
        unit: 'percentunit',
        queries: [{ expr: share(rate(requests, 'decision="deny"'), rate(requests)), legend: 'denied' }],
        number: [
          [0, 'green'],
          [0.5, 'orange'],
        ],
      },
      {
        title: 'Cache hit ratio',
        description: 'Look-ups that found a cached result, authenticated or rejected.',
        unit: 'percentunit',
        queries: [
          { expr: share(rate(lookups, 'result=~"hit_positive|hit_negative|stale"'), rate(lookups)), legend: 'hits' },
        ],
        number: [[0, 'blue']],
      },
      {
        title: 'Serving stale',
        description: 'Whether expired results are served, as GATECAR_CACHE_STALE_IF_ERROR allows.',
        unit: 'none',
        queries: [{ expr: `max(${of('gatecar_serving_stale')})`, legend: 'stale' }],
        number: [
          [0, 'green'],
          [1, 'orange'],
        ],
        words: { 0: 'no', 1: 'yes' },
      },
      {
        title: 'Running',
        description: 'Instances that Prometheus scrapes, by version.',
        unit: 'none',
        queries: [{ expr: `sum by (version) (${of('gatecar_build_info')})`, legend: '{{version}}' }],
        number: [[0, 'blue']],
      },
    ],
  },
  {
    title: 'Decisions',
    panels: [
      {
        title: 'Decisions by reason',
        description:
          'Requests per second. The reasons are those of the X-Gatecar-Reason header; the documentation has a row for each.',
        unit: 'reqps',
        stacked: true,
        queries: [{ expr: `${sumBy('decision, reason', rate(requests))} > 0`, legend: '{{decision}} {{reason}}' }],
      },
      {
        title: 'Response time (p99)',
        description: 'By decision. A cached allow takes less than a millisecond.',
        unit: 's',
        queries: [{ expr: quantile(0.99, 'decision', 'gatecar_request_duration_seconds'), legend: '{{decision}}' }],
      },
      {
        title: 'Rejected locally',
        description: 'Tokens that the local checks rejected without a TokenReview, by reason.',
        unit: 'reqps',
        stacked: true,
        queries: [{ expr: sumBy('reason', rate('gatecar_local_rejections_total')), legend: '{{reason}}' }],
      },
    ],
  },
  {
    title: 'Cache',
    panels: [
      {
        title: 'Look-ups by result',
        description:
          'Many misses: clients create a token per request, or the TTL is short. Coalesced look-ups waited for a review of the same token.',
        unit: 'reqps',
        stacked: true,
        queries: [{ expr: sumBy('result', rate(lookups)), legend: '{{result}}' }],
      },
      {
        title: 'Cached results',
        description: 'By store. GATECAR_CACHE_MAX_ENTRIES limits each store.',
        unit: 'short',
        queries: [{ expr: sumBy('store', of('gatecar_cache_entries')), legend: '{{store}}' }],
      },
      {
        title: 'Evictions and refreshes',
        description:
          'Authenticated results evicted for capacity mean that the cache is too small. Refreshes run in the background.',
        unit: 'ops',
        queries: [
          { expr: sumBy('store, cause', rate('gatecar_cache_evictions_total')), legend: '{{store}} {{cause}}' },
          { expr: sumBy('outcome', rate('gatecar_cache_refreshes_total')), legend: 'refresh {{outcome}}' },
        ],
      },
    ],
  },
  {
    title: 'Reviews',
    panels: [
      {
        title: 'Reviews by outcome',
        description:
          'TokenReviews per second. Outcomes other than authenticated and rejected are failures of gatecar or the API server.',
        unit: 'ops',
        stacked: true,
        queries: [{ expr: `${sumBy('outcome', rate('gatecar_reviews_total'))} > 0`, legend: '{{outcome}}' }],
      },
      {
        title: 'TokenReview latency',
        description: 'Median and p99 of the API server. GATECAR_REVIEW_TIMEOUT limits them.',
        unit: 's',
        queries: [
          { expr: quantile(0.5, '', 'gatecar_review_duration_seconds'), legend: 'p50' },
          { expr: quantile(0.99, '', 'gatecar_review_duration_seconds'), legend: 'p99' },
        ],
      },
      {
        title: 'Queue wait (p99)',
        description:
          'Time that reviews wait for a slot. A review that waits for half of GATECAR_REVIEW_TIMEOUT is rejected.',
        unit: 's',
        queries: [{ expr: quantile(0.99, '', 'gatecar_review_queue_duration_seconds'), legend: 'p99' }],
      },
      {
        title: 'In flight, by priority',
        description:
          'Compared with the current limit, which gatecar lowers while the API server returns 429. Unverified tokens get at most a quarter.',
        unit: 'short',
        queries: [
          { expr: sumBy('priority', of('gatecar_reviews_in_flight')), legend: '{{priority}}' },
          { expr: `sum(${of('gatecar_review_concurrency_limit')})`, legend: 'limit' },
        ],
      },
      {
        title: 'Queued, by priority',
        description:
          'If only `unverified` is long, gatecar cannot verify the signatures: the tokens are invalid or opaque, or no JWKS is available. Verified tokens do not wait behind them.',
        unit: 'short',
        queries: [{ expr: sumBy('priority', of('gatecar_reviews_queued')), legend: '{{priority}}' }],
      },
      {
        title: 'Rejected (overload)',
        description:
          'Reviews that were not sent: queue full, no slot in time, no memory for another waiting request, or event loop lag.',
        unit: 'ops',
        queries: [
          {
            expr: sumBy('priority, reason', rate('gatecar_reviews_rejected_total')),
            legend: '{{priority}}: {{reason}}',
          },
        ],
      },
    ],
  },
  {
    title: 'Outages',
    panels: [
      {
        title: 'API server up, by instance',
        description:
          '1 or 0 for each gatecar. A single 0 points to a node or its network; all at 0 to the API server or gatecar’s rights.',
        unit: 'none',
        queries: [{ expr: of('gatecar_apiserver_up'), legend: '{{instance}}' }],
      },
      {
        title: 'Served stale',
        description: 'Requests per second that were allowed with an expired result.',
        unit: 'reqps',
        queries: [{ expr: `sum(${rate(lookups, 'result="stale"')})`, legend: 'stale' }],
      },
      {
        title: 'Cluster JWKS',
        description:
          'Whether the last fetch succeeded, and failed fetches. Without the JWKS, each token with an invalid signature costs a review.',
        unit: 'none',
        queries: [
          { expr: `min(${of('gatecar_jwks_available')})`, legend: 'available' },
          {
            expr: `sum(${rate('gatecar_jwks_fetches_total', 'outcome="failure"')})`,
            legend: 'failures per second',
          },
        ],
      },
      {
        title: 'Clock skew',
        description:
          "How far gatecar's clock is ahead of the API server's. Beyond 30 s, gatecar does not check token times locally.",
        unit: 's',
        queries: [{ expr: of('gatecar_clock_skew_seconds'), legend: '{{instance}}' }],
      },
    ],
  },
  {
    title: 'Process',
    panels: [
      {
        title: 'Event loop lag (p99)',
        description: 'From 0.25 s, gatecar rejects reviews of new tokens.',
        unit: 's',
        queries: [{ expr: of('nodejs_eventloop_lag_p99_seconds'), legend: '{{instance}}' }],
      },
      {
        title: 'CPU',
        description: 'Cores in use. gatecar works on one core; 1 is saturated.',
        unit: 'short',
        queries: [{ expr: rate('process_cpu_seconds_total'), legend: '{{instance}}' }],
      },
      {
        title: 'Memory',
        description: 'Resident memory and JavaScript heap. The chart sets a limit of 256 MiB.',
        unit: 'bytes',
        queries: [
          { expr: of('process_resident_memory_bytes'), legend: '{{instance}}' },
          { expr: of('nodejs_heap_size_used_bytes'), legend: '{{instance}} heap' },
        ],
      },
      {
        title: 'Memory budgets in use',
        description:
          'Share of the memory for connections, requests in transfer and requests that wait for a review. At 1, gatecar closes ' +
          'connections or rejects requests as overloaded. From 0.75, it closes gRPC connections without an allowed request.',
        unit: 'percentunit',
        queries: [
          {
            expr: `max by (budget) (${of('gatecar_memory_budget_used_bytes')} / ${of('gatecar_memory_budget_bytes')})`,
            legend: '{{budget}}',
          },
        ],
      },
      {
        title: 'Connections closed',
        description:
          'Because a limit was reached (GATECAR_MAX_CONNECTIONS, GATECAR_MEMORY_LIMIT), or because the TLS handshake failed.',
        unit: 'ops',
        queries: [
          { expr: sumBy('protocol', rate('gatecar_connections_rejected_total')), legend: '{{protocol}}' },
          { expr: sumBy('reason', rate('gatecar_tls_handshake_failures_total')), legend: 'TLS: {{reason}}' },
        ],
      },
      {
        title: 'Log lines dropped',
        description: 'Log and audit lines, because standard output fails, is closed or is read too slowly.',
        unit: 'ops',
        queries: [
          { expr: `sum(${rate('gatecar_log_lines_dropped_total')})`, legend: 'dropped' },
          { expr: `sum(${rate('gatecar_log_write_failures_total')})`, legend: 'failed writes' },
        ],
      },
      {
        title: 'TLS reloads',
        description: 'By outcome.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (outcome) (increase(${of('gatecar_tls_reloads_total')}[$__rate_interval]))`,
            legend: '{{outcome}}',
          },
        ],
      },
      {
        title: 'Certificate expires in',
        description: 'Certificate of the listeners. Empty without TLS.',
        unit: 's',
        queries: [
          { expr: `min(${of('gatecar_tls_certificate_expiration_timestamp_seconds')}) - time()`, legend: 'left' },
        ],
      },
    ],
  },
];
