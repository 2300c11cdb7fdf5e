import type { ResultSource } from '../src/authentication/token-authenticator.ts';
import {
  type Decision,
  OVERLOAD_CAUSES,
  REVIEW_FAILURE_CAUSES,
  type Reason,
  type UnavailableCause,
} from '../src/decision/decision.ts';
import type { Protocol } from '../src/gateway/decision-event.ts';
import { MAX_AUDITED_AUDIENCES, MAX_AUDITED_LENGTH } from '../src/limits/constants.ts';
import type { AuditLine } from '../src/observability/audit-log.ts';

/** Lists every value of a string union. The compiler checks that none is missing. */
const words = <T extends string>(all: Record<T, true>): string[] => Object.keys(all);

const DECISIONS = words<Decision['kind']>({ allow: true, deny: true, unavailable: true });
const SOURCES = words<ResultSource>({ cache: true, stale: true, review: true, shared: true, local: true });
const PROTOCOLS = words<Protocol>({ http: true, grpc: true });
const REASONS = words<Reason>({
  credentials_missing: true,
  credentials_malformed: true,
  token_empty: true,
  token_rejected: true,
  audience_mismatch: true,
  user_missing: true,
  too_many_failures: true,
  namespace_denied: true,
  service_account_denied: true,
  authority_unavailable: true,
  overloaded: true,
});
const CAUSES: readonly UnavailableCause[] = [...REVIEW_FAILURE_CAUSES, ...OVERLOAD_CAUSES];

/** A string of printable ASCII, on one line. */
const text = (description: string, maxLength = MAX_AUDITED_LENGTH) => ({
  description,
  type: 'string',
  minLength: 1,
  maxLength,
  pattern: '^[ -~]*$',
});

/** A value that the gateway forwards. The module that reads it limits its length. */
const said = (description: string) => text(`${description}; only from a trusted proxy.`, 256);

type Property = Readonly<Record<string, unknown>>;

/** The properties of a line, including those that the logger adds. */
const PROPERTIES: Record<keyof AuditLine | 'level' | 'time' | 'name', Property> = {
  level: { const: 'info' },
  time: {
    description: 'Time of the decision, in UTC.',
    type: 'string',
    pattern: '^\\d{4}-\\d\\d-\\d\\dT[\\d:.]{12}Z$',
  },
  name: { const: 'gatecar' },
  audit: { description: 'Distinguishes audit lines from log lines.', const: true },
  sequence: {
    description: 'Number of the audit line in this process, from 1. A missing number means that a line was dropped.',
    type: 'integer',
    minimum: 1,
  },
  decision: { description: '`unavailable`: gatecar could not decide.', enum: DECISIONS },
  reason: { description: 'Why the decision is not an allow. The documentation lists the codes.', enum: REASONS },
  detail: text('Completes the reason: the API server’s error, or the name that is not allowed.'),
  cause: { description: 'Why gatecar could not decide.', enum: CAUSES },
  status: { description: 'The HTTP status of the response.', enum: [200, 401, 403, 503] },
  user: text('Username, percent-encoded as in the identity header, truncated to 512 characters.'),
  uid: text('UID, encoded like the username.'),
  audiences: {
    description: 'The first sixteen audiences that the token was accepted for, encoded like the username.',
    type: 'array',
    maxItems: MAX_AUDITED_AUDIENCES,
    items: { ...text('One audience.'), minLength: 0 },
  },
  staleSeconds: {
    description: 'How long ago the cached result expired, if it is served by stale-if-error.',
    type: 'integer',
    minimum: 0,
  },
  source: {
    description:
      '`cache`: a cached result. `stale`: an expired one (stale-if-error). `review`: a TokenReview for this request. ' +
      '`shared`: a TokenReview that another request had started. `local`: no TokenReview.',
    enum: SOURCES,
  },
  token: {
    description: 'Fingerprint: the first twelve hexadecimal digits of the SHA-256 hash.',
    type: 'string',
    pattern: '^[0-9a-f]{12}$',
  },
  protocol: { enum: PROTOCOLS },
  requestId: said("The gateway's own id of the request"),
  method: said('Method of the original request'),
  uri: said('Path of the original request, without its query'),
  clientAddress: text("The client's address if a trusted proxy sent it, otherwise the address of the connection.", 64),
  trace_id: {
    description: 'Trace of the request (W3C Trace Context), from a trusted proxy or created by gatecar.',
    type: 'string',
    pattern: '^[0-9a-f]{32}$',
  },
  span_id: {
    description: 'Span of gatecar, or of the gateway if gatecar exports none.',
    type: 'string',
    pattern: '^[0-9a-f]{16}$',
  },
  durationMs: { description: 'Time from the request to the decision, in milliseconds.', type: 'number', minimum: 0 },
};

const ALWAYS: readonly (keyof typeof PROPERTIES)[] = [
  ...([
    'level',
    'time',
    'name',
    'audit',
    'sequence',
    'decision',
    'status',
    'source',
    'protocol',
    'durationMs',
  ] as const),
];

/**
 * Returns the JSON schema of an audit line. The compiler checks that schema and line have the same
 * properties.
 */
export function auditSchema(): Record<string, unknown> {
  const refusal = { required: ['reason'], not: { required: ['staleSeconds'] } };
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'gatecar audit line',
    description: 'One decision: a line of standard output that has `"audit":true`. Unknown values are omitted.',
    type: 'object',
    additionalProperties: false,
    required: ALWAYS,
    properties: PROPERTIES,
    oneOf: [
      { properties: { decision: { const: 'allow' }, status: { const: 200 } }, not: { required: ['reason'] } },
      { properties: { decision: { const: 'deny' }, status: { enum: [401, 403] } }, ...refusal },
      { properties: { decision: { const: 'unavailable' } }, ...refusal, required: ['reason', 'cause'] },
    ],
  };
}
