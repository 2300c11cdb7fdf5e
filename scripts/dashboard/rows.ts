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
    title: 'Is it well?',
    panels: [
      {
        title: 'API server',
        description: 'Whether every gatecar could ask when it last tried.',
        unit: 'none',
        queries: [{ expr: `min(${of('gatecar_authority_up')})`, legend: 'up' }],
        number: GOOD_OR_BAD,
        words: { 0: 'cannot be asked', 1: 'answers' },
      },
      {
        title: 'Told 503',
        description: 'Requests that nobody could decide: an outage, or overload. Never an answer about a token.',
        unit: 'percentunit',
        queries: [{ expr: share(rate(requests, 'decision="unavailable"'), rate(requests)), legend: 'told 503' }],
        number: [
          [0, 'green'],
          [0.01, 'orange'],
          [0.05, 'red'],
        ],
      },
      {
        title: 'Denied',
        description: 'Requests that were refused for what they carry. How much is usual depends on who can reach you.',
        unit: 'percentunit',
        queries: [{ expr: share(rate(requests, 'decision="deny"'), rate(requests)), legend: 'denied' }],
        number: [
          [0, 'green'],
          [0.5, 'orange'],
        ],
      },
      {
        title: 'Known',
        description: 'Look-ups that were answered from memory, a good result or a bad one.',
        unit: 'percentunit',
        queries: [
          { expr: share(rate(lookups, 'result=~"hit_positive|hit_negative|stale"'), rate(lookups)), legend: 'known' },
        ],
        number: [[0, 'blue']],
      },
      {
        title: 'Grace',
        description: 'Whether results are served past their time, as GATECAR_GRACE allows.',
        unit: 'none',
        queries: [{ expr: `max(${of('gatecar_grace_active')})`, legend: 'grace' }],
        number: [
          [0, 'green'],
          [1, 'orange'],
        ],
        words: { 0: 'not in use', 1: 'in use' },
      },
      {
        title: 'Running',
        description: 'gatecars that are scraped, by version.',
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
          'Requests a second. Reasons are those of the X-Gatecar-Reason header; the README has a row for each.',
        unit: 'reqps',
        stacked: true,
        queries: [{ expr: `${sumBy('decision, reason', rate(requests))} > 0`, legend: '{{decision}} {{reason}}' }],
      },
      {
        title: 'Time to an answer',
        description: 'The slowest hundredth, by decision. An allow from memory takes less than a millisecond.',
        unit: 's',
        queries: [{ expr: quantile(0.99, 'decision', 'gatecar_request_duration_seconds'), legend: '{{decision}}' }],
      },
      {
        title: 'Refused unasked',
        description: 'Tokens that the local checks refused, by check: junk that the API server never saw.',
        unit: 'reqps',
        stacked: true,
        queries: [{ expr: sumBy('check', rate('gatecar_local_refusals_total')), legend: '{{check}}' }],
      },
    ],
  },
  {
    title: 'Cache',
    panels: [
      {
        title: 'Look-ups by result',
        description:
          'Mostly misses? Clients make a token for each request, or the TTL is short. Coalesced ones waited for a review of the same token.',
        unit: 'reqps',
        stacked: true,
        queries: [{ expr: sumBy('result', rate(lookups)), legend: '{{result}}' }],
      },
      {
        title: 'Results held',
        description: 'Good ones (accepted) and bad ones (refused); GATECAR_CACHE_MAX_ENTRIES bounds each.',
        unit: 'short',
        queries: [{ expr: sumBy('store', of('gatecar_cache_entries')), legend: '{{store}}' }],
      },
      {
        title: 'Evictions and renewals',
        description:
          'Good results that go for capacity are missed; the rest is as it should be. Renewals happen behind the answers.',
        unit: 'ops',
        queries: [
          { expr: sumBy('store, cause', rate('gatecar_cache_evictions_total')), legend: '{{store}} {{cause}}' },
          { expr: sumBy('outcome', rate('gatecar_renewals_total')), legend: 'renewal {{outcome}}' },
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
          'TokenReviews a second. Whatever is neither accepted nor refused is a fault of ours or of the API server.',
        unit: 'ops',
        stacked: true,
        queries: [{ expr: `${sumBy('outcome', rate('gatecar_reviews_total'))} > 0`, legend: '{{outcome}}' }],
      },
      {
        title: 'Time of a review',
        description:
          'The API server: half of the reviews, and the slowest hundredth. GATECAR_REVIEW_TIMEOUT ends them.',
        unit: 's',
        queries: [
          { expr: quantile(0.5, '', 'gatecar_review_duration_seconds'), legend: 'half' },
          { expr: quantile(0.99, '', 'gatecar_review_duration_seconds'), legend: 'slowest hundredth' },
        ],
      },
      {
        title: 'Wait for a turn',
        description:
          'The slowest hundredth of the waits before a review begins; past half of the review timeout it is given up.',
        unit: 's',
        queries: [{ expr: quantile(0.99, '', 'gatecar_review_queue_seconds'), legend: 'slowest hundredth' }],
      },
      {
        title: 'Under way, by priority',
        description:
          'Against the limit, which sinks by itself while the API server answers 429. Unverified tokens get a quarter at most.',
        unit: 'short',
        queries: [
          { expr: sumBy('priority', of('gatecar_reviews_in_flight')), legend: '{{priority}}' },
          { expr: `sum(${of('gatecar_review_concurrency_limit')})`, legend: 'limit' },
        ],
      },
      {
        title: 'Waiting, by priority',
        description: 'Only unverified is long? That is junk, and good tokens pass it by.',
        unit: 'short',
        queries: [{ expr: sumBy('priority', of('gatecar_reviews_queued')), legend: '{{priority}}' }],
      },
      {
        title: 'Turned away',
        description:
          'Reviews that never began: no place, no turn in time, no memory for one more that waits, or our own event loop behind.',
        unit: 'ops',
        queries: [
          {
            expr: sumBy('priority, cause', rate('gatecar_reviews_not_admitted_total')),
            legend: '{{priority}}: {{cause}}',
          },
          { expr: `sum(${rate('gatecar_reviews_shed_total')})`, legend: 'event loop behind' },
        ],
      },
    ],
  },
  {
    title: 'Outage and grace',
    panels: [
      {
        title: 'The API server can be asked',
        description:
          '1 or 0 for each gatecar. One alone at 0 is its node or its network; all of them, the API server or our right.',
        unit: 'none',
        queries: [{ expr: of('gatecar_authority_up'), legend: '{{instance}}' }],
      },
      {
        title: 'Served by grace',
        description: 'Requests a second that passed with a result past its time.',
        unit: 'reqps',
        queries: [{ expr: `sum(${rate(lookups, 'result="stale"')})`, legend: 'stale' }],
      },
      {
        title: "The cluster's keys",
        description:
          'Whether they could be read, and attempts that failed. Without them forged tokens cost a review each.',
        unit: 'none',
        queries: [
          { expr: `min(${of('gatecar_cluster_keys_readable')})`, legend: 'readable' },
          {
            expr: `sum(${rate('gatecar_cluster_keys_fetches_total', 'outcome="failure"')})`,
            legend: 'failures a second',
          },
        ],
      },
      {
        title: 'Clock skew',
        description:
          "How far gatecar's clock is ahead of the API server's. Past 30 s either way, token times are not checked locally.",
        unit: 's',
        queries: [{ expr: of('gatecar_clock_skew_seconds'), legend: '{{instance}}' }],
      },
    ],
  },
  {
    title: 'Process',
    panels: [
      {
        title: 'Event loop',
        description:
          'How late it comes round, the slowest hundredth. From a quarter of a second on new tokens are turned away.',
        unit: 's',
        queries: [{ expr: of('nodejs_eventloop_lag_p99_seconds'), legend: '{{instance}}' }],
      },
      {
        title: 'Processor',
        description: 'Cores in use. The work is done on one; 1 is full.',
        unit: 'short',
        queries: [{ expr: rate('process_cpu_seconds_total'), legend: '{{instance}}' }],
      },
      {
        title: 'Memory',
        description: 'Resident, and what of it is JavaScript. The chart gives 256 MiB.',
        unit: 'bytes',
        queries: [
          { expr: of('process_resident_memory_bytes'), legend: '{{instance}}' },
          { expr: of('nodejs_heap_size_used_bytes'), legend: '{{instance}} heap' },
        ],
      },
      {
        title: 'Memory budgets in use',
        description:
          'Share of the memory for connections, for requests in transfer and for requests that wait for a review. Connections ' +
          'are closed or requests rejected as overloaded at 1; from 0.75, gRPC connections without an allowed request.',
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
          'Because there was no room (GATECAR_MAX_CONNECTIONS, GATECAR_MEMORY_LIMIT), or because the TLS handshake failed, by reason.',
        unit: 'ops',
        queries: [
          { expr: sumBy('protocol', rate('gatecar_connections_dropped_total')), legend: '{{protocol}}' },
          { expr: sumBy('reason', rate('gatecar_tls_handshake_failures_total')), legend: 'TLS: {{reason}}' },
        ],
      },
      {
        title: 'Lines dropped',
        description: 'Of log and audit, because standard output fails, is closed or is read too slowly.',
        unit: 'ops',
        queries: [
          { expr: `sum(${rate('gatecar_log_lines_dropped_total')})`, legend: 'dropped' },
          { expr: `sum(${rate('gatecar_log_write_failures_total')})`, legend: 'failed writes' },
        ],
      },
      {
        title: 'TLS files replaced',
        description: 'Those that could be used, and those that could not. Empty steps are usual.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (outcome) (increase(${of('gatecar_tls_reloads_total')}[$__rate_interval]))`,
            legend: '{{outcome}}',
          },
        ],
      },
      {
        title: 'Certificate runs out in',
        description: 'Of the listeners; where they are plain there is nothing here.',
        unit: 's',
        queries: [{ expr: `min(${of('gatecar_tls_certificate_not_after_seconds')}) - time()`, legend: 'left' }],
      },
    ],
  },
];
