import type { RequestTrace, ResultSource } from '../authentication/token-authenticator.ts';
import type { Config } from '../config/schema.ts';
import { redact } from '../credential/redaction.ts';
import type { Decision, Reason, UnavailableCause } from '../decision/decision.ts';
import type { DecisionEvent, Protocol } from '../gateway/decision-event.ts';
import { encodeItem, encodeValue } from '../identity/header-encoding.ts';
import type { Identity } from '../identity/identity.ts';
import { MAX_AUDITED_AUDIENCES, MAX_AUDITED_LENGTH } from '../limits/constants.ts';
import type { Logger } from './logging/logger.ts';
import { type RequestLogFields, requestLogFields } from './logging/request-log-fields.ts';
import { fingerprint } from './logging/token-fingerprint.ts';

/**
 * One decision as an audit record, as specified in `audit.schema.json`. Unknown fields are left
 * out.
 */
export interface AuditLine extends Partial<RequestLogFields> {
  readonly audit: true;
  readonly sequence: number;
  readonly decision: Decision['kind'];
  readonly reason?: Reason | undefined;
  readonly detail?: string | undefined;
  readonly cause?: UnavailableCause | undefined;
  readonly status: number;
  readonly user?: string | undefined;
  readonly uid?: string | undefined;
  readonly audiences?: readonly string[] | undefined;
  readonly staleSeconds?: number | undefined;
  readonly source: ResultSource;
  readonly token?: string | undefined;
  readonly protocol: Protocol;
  readonly durationMs: number;
}

export interface AuditLog {
  record(decided: DecisionEvent): void;
  /** Starts the trace of a request. */
  readonly startTrace: () => RequestTrace;
}

/**
 * Writes a line for each decision, or for each one except allows, in addition to the log's own
 * lines. `"audit": true` marks audit lines. They ignore the log level and the rate limit.
 *
 * Lines are numbered from 1. No decision waits for a disk: if standard output is not read, lines
 * are dropped, as all output is. A gap in the numbers shows the loss to the reader.
 *
 * @returns `undefined` if auditing is off.
 */
export function auditLog(log: Logger, wanted: Config['auditLog']): AuditLog | undefined {
  if (wanted === 'off') return undefined;
  const lines = log.child({}, { level: 'info' });
  let sequence = 0;
  return {
    record(decided) {
      if (wanted === 'denied' && decided.decision.kind === 'allow') return;
      sequence += 1;
      lines.info(auditLine(decided, sequence));
    },
    startTrace: () => ({ source: 'local' }),
  };
}

function auditLine(decided: DecisionEvent, sequence: number): AuditLine {
  const { protocol, decision, answer, credential, durationMs, trace } = decided;
  return {
    audit: true,
    sequence,
    decision: decision.kind,
    ...about(decision),
    status: answer.status,
    source: trace?.source ?? 'local',
    ...(credential.kind === 'token' && { token: fingerprint(credential.token) }),
    protocol,
    ...requestLogFields(decided),
    durationMs: Math.round(durationMs * 1000) / 1000,
  };
}

function about(decision: Decision): Partial<AuditLine> {
  switch (decision.kind) {
    case 'allow':
      return { ...who(decision.identity), staleSeconds: decision.staleSeconds };
    case 'deny':
      return { reason: decision.reason, detail: decision.detail || undefined, ...who(decision.identity) };
    case 'unavailable':
      return { reason: decision.reason, cause: decision.cause };
  }
}

/**
 * Returns the identity fields in printable ASCII and with a length limit. A webhook or the creator
 * of a name may have chosen them.
 */
function who(identity: Identity | undefined): Partial<AuditLine> {
  if (identity === undefined) return {};
  return {
    user: cut(encodeValue(redact(identity.username))),
    uid: cut(encodeValue(redact(identity.uid))) || undefined,
    audiences: identity.audiences.slice(0, MAX_AUDITED_AUDIENCES).map(audience => cut(encodeItem(redact(audience)))),
  };
}

function cut(text: string): string {
  return text.slice(0, MAX_AUDITED_LENGTH);
}
