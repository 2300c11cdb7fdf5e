import type { ReviewEvent } from '../authentication/token-review.ts';
import { logRateLimiter } from '../observability/logging/log-rate-limit.ts';
import type { Logger } from '../observability/logging/logger.ts';

const FLOOD_WINDOW_MS = 10_000;

/** How often the API server is asked while nobody else could be asked, in milliseconds. */
const PROBE_EVERY_MS = 1000;

export interface Health {
  /** Whether the last review could be asked. */
  readonly apiServerUp: boolean;
  /** Whether it is certain that nobody can be asked: a review that was to be good has failed since one could be asked. */
  readonly apiServerDown: boolean;
  /** Whether this process should get requests: see {@link report} for why not. */
  readonly ready: boolean;
  /** Told after each review. @param isMadeUp whether its token may be such that it fails where others would not. */
  recordReview(review: Pick<ReviewEvent, 'outcome' | 'problem'>, isMadeUp?: boolean): void;
  /** From now on unready: the process is about to go. */
  drain(): void;
  /** One line for each check, as the API server's own `/readyz?verbose` writes them. */
  report(): string;
  /** Tells this one listener whether it is {@link ready}, now and whenever that changes. */
  onReadiness(listener: (ready: boolean) => void): void;
  /** Asks now, and again for as long as it cannot ask. */
  start(): void;
  stop(): void;
}

export interface HealthOptions {
  readonly log: Pick<Logger, 'info' | 'warn'>;
  /** Asks for one review; its outcome arrives through {@link Health.recordReview}. `undefined`: there is nobody to ask. */
  readonly probe: (() => Promise<unknown>) | undefined;
  readonly probeEveryMs?: number;
  /** Told when the API server can be asked again, or for the first time. */
  readonly onAuthorityUp?: () => void;
}

/**
 * Ready once a review could be asked for, and then also through an outage: known verdicts still serve, and if readiness
 * followed the API server, all replicas would leave at once.
 */
export function health(options: HealthOptions): Health {
  const { log, probe, probeEveryMs = PROBE_EVERY_MS, onAuthorityUp = () => {} } = options;
  let tell: (ready: boolean) => void = () => {};
  let up = probe === undefined;
  let down = false;
  let askedOnce = probe === undefined;
  let draining = false;
  let problem = 'not asked yet';
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  // An API server that answers every other review would have a line written for each.
  const gate = logRateLimiter({
    burst: 5,
    windowMs: FLOOD_WINDOW_MS,
    maxKinds: 20,
    onSummary: (line, suppressed) => log.info({ suppressed }, `more of the same: ${line}`),
  });

  const say = (level: 'info' | 'warn', line: string, fields: Record<string, string> = {}): void => {
    gate.sweep();
    if (gate.admit(line)) log[level](fields, line);
  };
  const schedule = (): void => {
    if (stopped || up || timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      ask();
    }, probeEveryMs).unref();
  };
  const ask = (): void => {
    probe?.().finally(schedule);
  };

  return {
    get apiServerUp() {
      return up;
    },
    get apiServerDown() {
      return down;
    },
    get ready() {
      return askedOnce && !draining;
    },
    recordReview({ problem: now }, isMadeUp = false) {
      if (now === undefined) {
        down = false;
        if (!up) {
          say('info', askedOnce ? 'the API server can be asked again' : 'the API server can be asked');
          onAuthorityUp();
        }
        up = true;
        if (!askedOnce) {
          askedOnce = true;
          tell(!draining);
        }
        return;
      }
      if (up || problem !== now) say('warn', 'the API server cannot be asked', { problem: now });
      up = false;
      // Otherwise the probe will tell.
      down ||= !isMadeUp;
      problem = now;
      schedule();
    },
    drain() {
      draining = true;
      tell(false);
    },
    report() {
      const lines = [
        check('asked-once', askedOnce, problem),
        check('authority', up, askedOnce ? `${problem} (known verdicts still serve)` : problem),
        check('shutdown', !draining, 'draining'),
      ];
      return `${lines.join('\n')}\n${askedOnce && !draining ? 'readyz check passed' : 'readyz check failed'}\n`;
    },
    start: ask,
    onReadiness(listener) {
      tell = listener;
      listener(askedOnce && !draining);
    },
    stop() {
      stopped = true;
      gate.sweep(true);
      clearTimeout(timer);
    },
  };
}

function check(name: string, ok: boolean, why: string): string {
  return ok ? `[+]${name} ok` : `[-]${name} failed: ${why}`;
}
