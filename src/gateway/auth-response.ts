import type { Decision } from '../decision/decision.ts';
import { type ErrorResponse, type ResponseSettings, toErrorResponse } from '../decision/error-response.ts';
import type { Identity } from '../identity/identity.ts';
import { createIdentityHeaders } from '../identity/identity-headers.ts';
import { RENDERED_IDENTITY_SLOTS } from '../limits/constants.ts';

/** A decision as a response to the gateway, independent of the protocol. */
export interface AuthResponse {
  readonly status: 200 | 401 | 403 | 503;
  /**
   * Flat list of header names and values. Each value overwrites the gateway's value for that name.
   */
  readonly headers: readonly string[];
  /** JSON, or empty for an allow. */
  readonly body: string;
  /** The error text in the body, for protocols with a separate message. Empty for an allow. */
  readonly text: string;
}

export interface ResponseRendererOptions extends ResponseSettings {
  readonly identityHeaderPrefix: string;
}

/**
 * Envoy accepts only status 200 as an allow. If an allow has a body, nginx opens a new connection
 * for each request.
 */
const ALLOW_HEADERS = ['Content-Length', '0', 'Cache-Control', 'no-store'] as const;

const STALE_HEADER = 'X-Gatecar-Stale';

/** Renders decisions as responses. */
export function createResponseRenderer(options: ResponseRendererOptions): (decision: Decision) => AuthResponse {
  const identityHeaders = createIdentityHeaders(options.identityHeaderPrefix);
  const renderAllow = (identity: Identity | undefined): AuthResponse =>
    Object.freeze({
      status: 200,
      headers: Object.freeze([...ALLOW_HEADERS, ...identityHeaders(identity)]),
      body: '',
      text: '',
    });
  const rendered = new RenderedAllows(renderAllow);
  return decision => {
    if (decision.kind !== 'allow') return renderError(toErrorResponse(decision, options));
    const { identity, staleSeconds } = decision;
    const response = identity === undefined ? renderAllow(undefined) : rendered.of(identity);
    if (staleSeconds === undefined) return response;
    return { ...response, headers: [...response.headers, STALE_HEADER, String(staleSeconds)] };
  };
}

/**
 * Keeps rendered allows of identities in use. A response depends only on its identity, which is
 * immutable and the same object for each use of a cached result.
 *
 * Each identity has one possible slot. With far more tokens in use than slots, replacing a slot
 * costs nothing, whereas the bookkeeping of a map costs more than rendering.
 */
class RenderedAllows {
  readonly #render: (identity: Identity) => AuthResponse;
  readonly #slots: ({ readonly identity: Identity; readonly response: AuthResponse } | undefined)[];

  constructor(render: (identity: Identity) => AuthResponse) {
    this.#render = render;
    this.#slots = new Array(RENDERED_IDENTITY_SLOTS).fill(undefined);
  }

  of(identity: Identity): AuthResponse {
    const at = slotOf(identity);
    const kept = this.#slots[at];
    if (kept?.identity === identity) return kept.response;
    const response = this.#render(identity);
    this.#slots[at] = { identity, response };
    return response;
  }
}

/** Spreads identities over the slots by the end of their credential ID or UID, which are random. */
function slotOf({ credentialId, uid, username }: Identity): number {
  const text = credentialId || uid || username;
  let hash = 0;
  for (let at = Math.max(0, text.length - 8); at < text.length; at += 1) hash = hash * 31 + text.charCodeAt(at);
  return hash % RENDERED_IDENTITY_SLOTS;
}

/** Iterates over the name-value pairs of a flat list. */
export function* headerPairs(flat: readonly string[]): Generator<[name: string, value: string]> {
  for (let at = 0; at < flat.length; at += 2) yield [flat[at] as string, flat[at + 1] as string];
}

function renderError({ status, text, reason, challenge, retryAfterSeconds }: ErrorResponse): AuthResponse {
  const body = JSON.stringify({ error: text });
  const headers = [
    'Content-Type',
    'application/json',
    'Content-Length',
    String(Buffer.byteLength(body)),
    'Cache-Control',
    'no-store',
  ];
  if (challenge !== undefined) headers.push('WWW-Authenticate', challenge);
  if (reason !== undefined) headers.push('X-Gatecar-Reason', reason);
  if (retryAfterSeconds !== undefined) headers.push('Retry-After', String(retryAfterSeconds));
  return { status, headers, body, text };
}
