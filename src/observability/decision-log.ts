import { redact } from '../credential/redaction.ts';
import type { Allow, Decision, Deny } from '../decision/decision.ts';
import type { DecisionEvent } from '../gateway/decision-event.ts';
import { encodeValue } from '../identity/header-encoding.ts';
import { DECISION_LOG_WINDOW_MS } from '../limits/constants.ts';
import { type LogRateLimiter, logRateLimiter } from './logging/log-rate-limit.ts';
import type { Logger } from './logging/logger.ts';
import { requestLogFields } from './logging/request-log-fields.ts';
import { fingerprint } from './logging/token-fingerprint.ts';

export interface DecisionLog {
  record(decided: DecisionEvent): void;
  /** Logs the number of lines that are still held back. */
  close(): void;
}

/**
 * Logs a line for each decision: denials at `info`, outages at `warn`, allows at `debug`. Denials
 * and outages with the same reason and user are of one kind. In each window, the first ten lines of
 * a kind are written. The rest are counted in one summary line.
 */
export function decisionLog(log: Logger, windowMs = DECISION_LOG_WINDOW_MS): DecisionLog {
  const gate: LogRateLimiter = logRateLimiter({
    burst: 10,
    windowMs,
    maxKinds: 1000,
    onSummary: (kind, suppressed) => {
      const [reason = '', ...username] = kind.split(' ');
      log.info(
        { reason, ...(username.length > 0 && { username: username.join(' ') }), suppressed },
        'repeated log lines suppressed',
      );
    },
  });
  const timer = setInterval(() => gate.sweep(), windowMs).unref();

  return {
    record(decided) {
      const { decision } = decided;
      if (decision.kind === 'allow') {
        if (log.isLevelEnabled('debug')) log.debug(lineOf(decided), 'allowed');
        return;
      }
      const level = decision.kind === 'deny' ? 'info' : 'warn';
      if (!log.isLevelEnabled(level) || !gate.admit(kindOf(decision))) return;
      log[level](lineOf(decided), decision.kind === 'deny' ? 'denied' : 'unavailable');
    },
    close() {
      clearInterval(timer);
      gate.sweep(true);
    },
  };
}

function kindOf(refusal: Exclude<Decision, Allow>): string {
  const username = refusal.kind === 'deny' ? nameIn(refusal) : undefined;
  return username === undefined ? refusal.reason : `${refusal.reason} ${username}`;
}

/** An authentication webhook may use a token as the user name. */
function nameIn({ username }: Deny): string | undefined {
  return username === undefined ? undefined : redact(username);
}

function lineOf(decided: DecisionEvent): Record<string, unknown> {
  const { protocol, decision, answer, credential, durationMs } = decided;
  return {
    ...about(decision),
    protocol,
    status: answer.status,
    ...(credential.kind === 'token' && { token: fingerprint(credential.token) }),
    ...requestLogFields(decided),
    durationMs: Math.round(durationMs * 1000) / 1000,
  };
}

function about(decision: Decision): Record<string, unknown> {
  switch (decision.kind) {
    case 'allow':
      return {
        username: decision.identity && encodeValue(redact(decision.identity.username)),
        staleSeconds: decision.staleSeconds,
      };
    case 'deny':
      return { reason: decision.reason, detail: decision.detail || undefined, username: nameIn(decision) };
    case 'unavailable':
      return { reason: decision.reason, cause: decision.cause };
  }
}
