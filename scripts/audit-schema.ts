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
const SOURCES = words<ResultSource>({ cache: true, grace: true, review: true, shared: true, local: true });
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
const said = (description: string) => text(`${description}; from a trusted peer alone.`, 256);

type Property = Readonly<Record<string, unknown>>;

/** The properties of a line, including those that the logger adds. */
const PROPERTIES: Record<keyof AuditLine | 'level' | 'time' | 'name', Property> = {
  level: { const: 'info' },
  time: { description: 'When it was decided, in UTC.', type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT[\\d:.]{12}Z$' },
  name: { const: 'gatecar' },
  audit: { description: 'Tells an audit line from a line of the log.', const: true },
  sequence: {
    description: 'Counts the audit lines of this process from 1; a number that is missing is a line that was dropped.',
    type: 'integer',
    minimum: 1,
  },
  decision: { description: '`unavailable`: nobody could say.', enum: DECISIONS },
  reason: { description: 'Why it is no allow; the codes of the README.', enum: REASONS },
  detail: text('What completes the reason: the words of the API server, or the name that is not allowed.'),
  cause: { description: 'Why nobody could say.', enum: CAUSES },
  status: { description: 'What was answered.', enum: [200, 401, 403, 503] },
  user: text('Username, percent-encoded as in the identity header; cut at 512 characters.'),
  uid: text('UID, likewise.'),
  audiences: {
    description: 'Audiences that the token was accepted for, likewise; the first sixteen.',
    type: 'array',
    maxItems: MAX_AUDITED_AUDIENCES,
    items: { ...text('One audience.'), minLength: 0 },
  },
  staleSeconds: { description: 'Served by grace: how long past its time.', type: 'integer', minimum: 0 },
  source: {
    description:
      '`cache`: the result was known. `grace`: known, past its time. `review`: the API server was asked for this request. ' +
      '`shared`: it had been asked for another one already. `local`: nobody was asked.',
    enum: SOURCES,
  },
  token: { description: 'Fingerprint: twelve digits of its SHA-256.', type: 'string', pattern: '^[0-9a-f]{12}$' },
  protocol: { enum: PROTOCOLS },
  requestId: said("The gateway's own id of the request"),
  method: said('Method of the original request'),
  uri: said('Path of the original request, without its query'),
  clientAddress: text("The client's address where a trusted peer told it, else the peer's.", 64),
  trace_id: {
    description: 'The trace of the request (W3C Trace Context), as a trusted peer tells it, or our own.',
    type: 'string',
    pattern: '^[0-9a-f]{32}$',
  },
  span_id: {
    description: 'The span: ours, or else the one of the gateway.',
    type: 'string',
    pattern: '^[0-9a-f]{16}$',
  },
  durationMs: { description: 'From the question to the answer, in milliseconds.', type: 'number', minimum: 0 },
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
    description: 'One decision: a line of standard output that has `"audit":true`. What is not known is left out.',
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
