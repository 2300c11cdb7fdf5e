import type { ReviewEvent } from '../authentication/token-review.ts';
import { HEALTH_LOG_WINDOW_MS, PROBE_EVERY_MS } from '../limits/constants.ts';
import { logRateLimiter } from '../observability/logging/log-rate-limit.ts';
import type { Logger } from '../observability/logging/logger.ts';

export interface Health {
  /** Whether the last review got a result from the API server. */
  readonly apiServerUp: boolean;
  /**
   * Whether the API server is treated as down: a review of a trusted token, or a probe, has failed
   * since the last success.
   */
  readonly apiServerDown: boolean;
  /** Whether this process should receive requests. {@link report} gives the reason if not. */
  readonly ready: boolean;
  /**
   * Records the outcome of a review.
   *
   * @param mayBeInvalid whether the token may be invalid, so that its review may fail while others
   * succeed.
   */
  recordReview(review: Pick<ReviewEvent, 'outcome' | 'problem'>, mayBeInvalid?: boolean): void;
  /** Makes the process unready for good, because it is about to exit. */
  drain(): void;
  /** Returns one line for each check, in the format of the API server's `/readyz?verbose`. */
  report(): string;
  /** Sets the only listener. It is called now, and whenever {@link ready} changes. */
  onReadiness(listener: (ready: boolean) => void): void;
  /** Probes the API server now, and repeatedly while it is unreachable. */
  start(): void;
  stop(): void;
}

export interface HealthOptions {
  readonly log: Pick<Logger, 'info' | 'warn'>;
  /**
   * Starts one review; its outcome arrives through {@link Health.recordReview}. `undefined` if
   * there is no API server to probe.
   */
  readonly probe: (() => Promise<unknown>) | undefined;
  readonly probeEveryMs?: number;
  /** Called when the API server becomes reachable, also for the first time. */
  readonly onApiServerUp?: () => void;
}

/**
 * Creates the readiness state. The process becomes ready after the first successful review and
 * stays ready during outages. Cached results are still served then. If readiness followed the API
 * server, all replicas would become unready at the same time.
 */
export function health(options: HealthOptions): Health {
  const { log, probe, probeEveryMs = PROBE_EVERY_MS, onApiServerUp = () => {} } = options;
  let notify: (ready: boolean) => void = () => {};
  let up = probe === undefined;
  let down = false;
  let reviewedOnce = probe === undefined;
  let draining = false;
  let problem = 'no review yet';
  const { logTransition, close } = createStateLog(log);
  const probes = createProbe(probe, probeEveryMs, () => !up);

  return {
    get apiServerUp() {
      return up;
    },
    get apiServerDown() {
      return down;
    },
    get ready() {
      return reviewedOnce && !draining;
    },
    recordReview({ problem: failure }, mayBeInvalid = false) {
      if (failure === undefined) {
        down = false;
        if (!up) {
          logTransition('info', reviewedOnce ? 'API server reachable again' : 'API server reachable');
          onApiServerUp();
        }
        up = true;
        if (!reviewedOnce) {
          reviewedOnce = true;
          notify(!draining);
        }
        return;
      }
      if (up || problem !== failure) logTransition('warn', 'API server unreachable', { problem: failure });
      up = false;
      // An invalid token may have caused this failure, so the probe decides.
      down ||= !mayBeInvalid;
      problem = failure;
      probes.schedule();
    },
    drain() {
      draining = true;
      notify(false);
    },
    report: () => readyzReport({ reviewedOnce, up, draining, problem }),
    start: probes.start,
    onReadiness(listener) {
      notify = listener;
      listener(reviewedOnce && !draining);
    },
    stop() {
      probes.stop();
      close();
    },
  };
}

/**
 * Logs changes of the state, within a limit. An API server that fails every other review would
 * cause a line for each.
 */
interface StateLog {
  logTransition(level: 'info' | 'warn', line: string, fields?: Record<string, string>): void;
  close(): void;
}

function createStateLog(log: HealthOptions['log']): StateLog {
  const limiter = logRateLimiter({
    burst: 5,
    windowMs: HEALTH_LOG_WINDOW_MS,
    maxKinds: 20,
    onSummary: (line, suppressed) => log.info({ suppressed }, `repeated log lines suppressed: ${line}`),
  });
  return {
    logTransition(level, line, fields = {}) {
      limiter.sweep();
      if (limiter.admit(line)) log[level](fields, line);
    },
    close: () => limiter.sweep(true),
  };
}

/** Runs a probe now, and again at intervals while it is needed. */
interface Probe {
  start(): void;
  /** Runs the probe after the interval, if it is still needed. */
  schedule(): void;
  stop(): void;
}

function createProbe(probe: HealthOptions['probe'], everyMs: number, isNeeded: () => boolean): Probe {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const schedule = (): void => {
    if (stopped || !isNeeded() || timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      start();
    }, everyMs).unref();
  };
  const start = (): void => {
    probe?.().finally(schedule);
  };
  return {
    start,
    schedule,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

interface State {
  readonly reviewedOnce: boolean;
  readonly up: boolean;
  readonly draining: boolean;
  readonly problem: string;
}

function readyzReport({ reviewedOnce, up, draining, problem }: State): string {
  const lines = [
    check('first-review', reviewedOnce, problem),
    check('apiserver', up, reviewedOnce ? `${problem} (cached results are still served)` : problem),
    check('shutdown', !draining, 'draining'),
  ];
  return `${lines.join('\n')}\n${reviewedOnce && !draining ? 'readyz check passed' : 'readyz check failed'}\n`;
}

function check(name: string, ok: boolean, why: string): string {
  return ok ? `[+]${name} ok` : `[-]${name} failed: ${why}`;
}
