import type { Decision } from '../decision/decision.ts';
import { type AnswerSettings, type Explanation, explain } from '../decision/explain.ts';
import { renderIdentityHeaders } from '../identity/headers.ts';
import type { Identity } from '../identity/identity.ts';
import { renderHead } from './whole-head.ts';

/** A decision as every gateway hears it, whatever the protocol: flat header names and values, each to overwrite. */
export interface Answer {
  readonly status: 200 | 401 | 403 | 503;
  readonly headers: readonly string[];
  /** JSON, or empty for an allow. */
  readonly body: string;
  /** What the body says, for protocols that carry a message beside it. */
  readonly text: string;
  /** The head over HTTP/1.1 up to what differs from request to request, where an answer is given often. */
  readonly head?: string;
}

const STALE_HEADER = 'X-Gatecar-Stale';

export interface AnswererOptions extends AnswerSettings {
  readonly identityHeaderPrefix: string;
}

/** Renders decisions as the contract says. Allows are rendered once for each identity and kept as long as it is. */
export function answerer(options: AnswererOptions): (decision: Decision) => Answer {
  const prefix = options.identityHeaderPrefix;
  const nobody = new AllowAnswer(undefined, prefix);
  const rendered = new WeakMap<Identity, Answer>();
  return decision => {
    if (decision.kind !== 'allow') return refuse(explain(decision, options));
    if (decision.identity === undefined) return nobody;
    let answer = rendered.get(decision.identity);
    if (answer === undefined) {
      answer = new AllowAnswer(decision.identity, prefix);
      rendered.set(decision.identity, answer);
    }
    return decision.staleSeconds === undefined ? answer : stale(answer, decision.staleSeconds);
  };
}

/** The names and values of a flat list, in pairs. */
export function* headerPairs(flat: readonly string[]): Generator<[name: string, value: string]> {
  for (let at = 0; at < flat.length; at += 2) yield [flat[at] as string, flat[at + 1] as string];
}

/**
 * An allow is exactly 200 with no body and no type: Envoy takes no other status for a yes, and nginx opens a connection
 * for each request if there is one byte of body.
 *
 * Each live verdict has one of these, and so it keeps no more than the form that its gateway asks for: a list of pieces
 * takes four times the room of the head that is made of them.
 */
class AllowAnswer implements Answer {
  readonly status = 200;
  readonly body = '';
  readonly text = '';
  readonly #identity: Identity | undefined;
  readonly #prefix: string;
  #headers: readonly string[] | undefined;
  #head: string | undefined;

  constructor(identity: Identity | undefined, prefix: string) {
    this.#identity = identity;
    this.#prefix = prefix;
  }

  get headers(): readonly string[] {
    this.#headers ??= this.#render();
    return this.#headers;
  }

  get head(): string {
    this.#head ??= renderHead(this.status, this.#render());
    return this.#head;
  }

  #render(): string[] {
    return ['Content-Length', '0', 'Cache-Control', 'no-store', ...renderIdentityHeaders(this.#identity, this.#prefix)];
  }
}

/** Served by grace: marked for gateways and upstreams that care. */
function stale(answer: Answer, seconds: number): Answer {
  const { status, headers, body, text } = answer;
  return { status, headers: [...headers, STALE_HEADER, String(seconds)], body, text };
}

function refuse({ status, text, reason, challenge, retryAfterSeconds }: Explanation): Answer {
  const body = JSON.stringify({ error: text });
  const headers = [
    ...['Content-Type', 'application/json', 'Content-Length', String(Buffer.byteLength(body))],
    ...['Cache-Control', 'no-store'],
  ];
  if (challenge !== undefined) headers.push('WWW-Authenticate', challenge);
  if (reason !== undefined) headers.push('X-Gatecar-Reason', reason);
  if (retryAfterSeconds !== undefined) headers.push('Retry-After', String(retryAfterSeconds));
  return { status, headers, body, text };
}
