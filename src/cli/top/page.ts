import { type Colorizer, type marker, type Severity, stripControl } from '../output.ts';
import type { Interval } from './interval.ts';
import { sumOf, valuesOf } from './metrics-text.ts';

const MAX_REASONS = 5;

/** How a page is shown, and what it says besides the metrics. */
export interface PageView {
  /** The address of the ops listener. */
  readonly address: string;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
  /** Why the metrics are not of this moment. It takes the place of the API server's state. */
  readonly problem?: string | undefined;
  readonly paint: Colorizer;
  readonly mark: ReturnType<typeof marker>;
}

/** Returns the page of `gatecar top`, for a terminal of 80 columns and 24 lines. */
export function pageOf(interval: Interval, view: PageView): string {
  const { paint } = view;
  return [
    ...headLines(interval, view),
    '',
    ...decisionLines(interval, paint),
    '',
    ...reasonLines(interval, paint),
    '',
    ...cacheAndReviewLines(interval, paint),
    '',
    ...priorityLines(interval, paint),
  ]
    .map(line => `${line.trimEnd()}\n`)
    .join('');
}

function headLines({ now, seconds, isSinceStart }: Interval, { address, nowMs, problem, paint, mark }: PageView) {
  const version = valuesOf(now, 'gatecar_build_info', 'version')[0] ?? '';
  const uptime = duration(Math.max(0, nowMs / 1000 - sumOf(now, 'process_start_time_seconds')));
  const window = isSinceStart ? 'since its start' : `last ${Math.round(seconds)} s`;
  const [tone, state] = problem === undefined ? apiServerState(now) : (['bad', problem] as const);
  return [
    `${paint('strong', `gatecar ${stripControl(version)}`)} at ${address}, up ${uptime}; ${window}`,
    `${mark(tone)}${paint(tone, state)}`,
  ];
}

function apiServerState(now: Interval['now']): readonly [tone: Severity, text: string] {
  if (sumOf(now, 'gatecar_serving_stale') > 0) {
    return ['doubtful', 'API server unreachable: expired results are served (stale-if-error)'];
  }
  return sumOf(now, 'gatecar_apiserver_up') > 0 ? ['good', 'API server reachable'] : ['bad', 'API server unreachable'];
}

const DECISIONS = [
  ['allow', 'good'],
  ['deny', 'bad'],
  ['unavailable', 'doubtful'],
] as const;

function decisionLines(interval: Interval, paint: Colorizer): string[] {
  const name = 'gatecar_requests_total';
  const all = interval.increase(name);
  const rows = DECISIONS.map(([decision, tone]) => {
    const labels = { decision };
    const count = interval.increase(name, labels);
    const cells = [rate(interval.rate(name, labels)), percent(count, all), ...latency(interval, labels)];
    return row(decision, cells, count > 0 ? text => paint(tone, text) : undefined);
  });
  return [heading('DECISIONS', ['per s', 'share', 'p50', 'p99'], paint), ...rows];
}

function latency(interval: Interval, labels: Readonly<Record<string, string>>): string[] {
  const name = 'gatecar_request_duration_seconds';
  return [0.5, 0.99].map(share => time(interval.quantile(name, share, labels)));
}

function reasonLines(interval: Interval, paint: Colorizer): string[] {
  const name = 'gatecar_requests_total';
  const counted = valuesOf(interval.now, name, 'reason')
    .filter(reason => reason !== '')
    .map(reason => ({ reason, count: interval.increase(name, { reason }) }))
    .filter(({ count }) => count > 0)
    .sort((one, other) => other.count - one.count)
    .slice(0, MAX_REASONS);
  const rows = counted.map(({ reason, count }) => row(stripControl(reason), [rate(count / interval.seconds)]));
  return [heading('TOP REASONS', ['per s'], paint), ...(rows.length > 0 ? rows : [paint('quiet', 'none')])];
}

function cacheAndReviewLines(interval: Interval, paint: Colorizer): string[] {
  const { now } = interval;
  const lookups = (result?: string) =>
    interval.increase('gatecar_cache_lookups_total', result === undefined ? {} : { result });
  const hits = lookups('hit_positive') + lookups('hit_negative') + lookups('stale');
  const entries = (store: string) => sumOf(now, 'gatecar_cache_entries', { store });
  const reviews = (outcome?: string) =>
    interval.increase('gatecar_reviews_total', outcome === undefined ? {} : { outcome });
  const reviewRate = (count: number) => rate(count / interval.seconds);
  const failed = reviews() - reviews('authenticated') - reviews('rejected');
  const times = [0.5, 0.99].map(share => time(interval.quantile('gatecar_review_duration_seconds', share)));
  return [
    `${paint('strong', 'CACHE')}    hit rate ${percent(hits, lookups())}; ` +
      `results: ${entries('authenticated')} authenticated, ${entries('rejected')} rejected`,
    `${paint('strong', 'REVIEWS')}  ${reviewRate(reviews())} per s; p50 ${times[0]}, p99 ${times[1]}; ` +
      `slots ${sumOf(now, 'gatecar_review_concurrency_limit')}`,
    `         authenticated ${reviewRate(reviews('authenticated'))}, rejected ${reviewRate(reviews('rejected'))}, ` +
      `${failed > 0 ? paint('doubtful', `failed ${reviewRate(failed)}`) : `failed ${rate(0)}`} per s`,
  ];
}

function priorityLines(interval: Interval, paint: Colorizer): string[] {
  const { now } = interval;
  const rows = ['verified', 'unverified', 'refresh'].map(priority =>
    row(priority, [
      String(sumOf(now, 'gatecar_reviews_in_flight', { priority })),
      String(sumOf(now, 'gatecar_reviews_queued', { priority })),
      rate(interval.rate('gatecar_reviews_rejected_total', { priority })),
    ]),
  );
  return [heading('PRIORITY', ['in flight', 'queued', 'rejected/s'], paint), ...rows];
}

const FIRST_WIDTH = 24;
const CELL_WIDTH = 12;

function row(first: string, cells: readonly string[], paint: (text: string) => string = text => text): string {
  return paint(first.padEnd(FIRST_WIDTH)) + cells.map(cell => cell.padStart(CELL_WIDTH)).join('');
}

function heading(title: string, cells: readonly string[], paint: Colorizer): string {
  return row(title, cells, text => paint('strong', text));
}

function rate(perSecond: number): string {
  return perSecond.toLocaleString('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '-' : `${((100 * part) / whole).toFixed(1)} %`;
}

function time(seconds: number | undefined): string {
  if (seconds === undefined) return '-';
  const ms = seconds * 1000;
  if (ms >= 1000) return `${seconds.toFixed(1)} s`;
  return `${ms.toFixed(ms < 1 ? 2 : ms < 10 ? 1 : 0)} ms`;
}

function duration(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
