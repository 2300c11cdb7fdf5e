import { LRUCache } from 'lru-cache';
import type { Allow, Decision } from '../decision/decision.ts';
import { type AnswerSettings, type Explanation, explain } from '../decision/explain.ts';
import { identityLines, identityRenderer } from '../identity/headers.ts';
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
  /** The head over HTTP/1.1 up to what differs from request to request, where the answer is kept to be given again. */
  readonly head?: string;
}

/** How many answers are kept as they were rendered: two MiB of allows at the most where none is large, and less than one of refusals. */
const MAX_ALLOWS = 1024;
const MAX_REFUSALS = 256;

/** In what room, in bytes: an allow keeps its identity, which may be in hundreds of groups, after the verdict has gone. */
const MAX_ALLOWS_ROOM = 8 * 1024 * 1024;
const ROOM = 1536;
const ROOM_OF_ITEM = 32;

/**
 * Once that is full, one of so many new ones takes another's place: where more tokens are in use, each would push out one
 * that lives long enough to be expensive to collect, and not long enough to be of use. Who asks often is soon in.
 */
const KEPT_OF = 16;

const STALE_HEADER = 'X-Gatecar-Stale';

export interface AnswererOptions extends AnswerSettings {
  readonly identityHeaderPrefix: string;
  /** No more allows are kept than there are verdicts. */
  readonly cacheMaxEntries?: number;
}

/** Renders decisions as the contract says. What was rendered is kept, up to a bound, for whoever comes with the same. */
export function answerer(options: AnswererOptions): (decision: Decision) => Answer {
  const form = allowForm(options.identityHeaderPrefix);
  const allow = (identity: Identity | undefined): Answer => new KeptAnswer(200, '', '', form, identity);
  const nobody = allow(undefined);
  const allows = new LRUCache<Identity, Answer>({
    max: Math.min(MAX_ALLOWS, options.cacheMaxEntries ?? MAX_ALLOWS),
    maxSize: MAX_ALLOWS_ROOM,
  });
  let rendered = 0;
  const keep = (identity: Identity, answer: Answer): void => {
    rendered += 1;
    const isTurn = rendered % KEPT_OF === 0;
    if (allows.size === allows.max && !isTurn) return;
    const size = roomOf(identity);
    if (allows.calculatedSize + size <= MAX_ALLOWS_ROOM || isTurn) allows.set(identity, answer, { size });
  };
  const refusals = new LRUCache<string, Answer>({ max: MAX_REFUSALS });
  return decision => {
    if (decision.kind !== 'allow') {
      const told = toldBy(decision);
      let answer = refusals.get(told);
      if (answer === undefined) {
        answer = refuse(explain(decision, options));
        refusals.set(told, answer);
      }
      return answer;
    }
    if (decision.identity === undefined) return nobody;
    let answer = allows.get(decision.identity);
    if (answer === undefined) {
      answer = allow(decision.identity);
      keep(decision.identity, answer);
    }
    return decision.staleSeconds === undefined ? answer : stale(answer, decision.staleSeconds);
  };
}

/** All that is long where anything is. */
function roomOf({ username, uid, groups, audiences }: Identity): number {
  let room = ROOM + username.length + uid.length;
  for (const item of groups) room += ROOM_OF_ITEM + item.length;
  for (const item of audiences) room += ROOM_OF_ITEM + item.length;
  return room;
}

/** All of a refusal that its answer depends on. */
function toldBy(refusal: Exclude<Decision, Allow>): string {
  const detail = refusal.kind === 'deny' ? refusal.detail : refusal.cause;
  return `${refusal.reason} ${refusal.retryAfterSeconds ?? ''} ${detail}`;
}

/** The names and values of a flat list, in pairs. */
export function* headerPairs(flat: readonly string[]): Generator<[name: string, value: string]> {
  for (let at = 0; at < flat.length; at += 2) yield [flat[at] as string, flat[at + 1] as string];
}

/** How what an answer is about becomes its headers, and its head over HTTP/1.1. */
interface Form<T> {
  headers(of: T): readonly string[];
  head(of: T, status: number): string;
}

/** Keeps no more than what its gateway asks for: a list of pieces takes four times the room of the head made of them. */
class KeptAnswer<T> implements Answer {
  readonly status: Answer['status'];
  readonly body: string;
  readonly text: string;
  readonly #form: Form<T>;
  readonly #of: T;
  #headers: readonly string[] | undefined;
  #head: string | undefined;

  constructor(status: Answer['status'], body: string, text: string, form: Form<T>, of: T) {
    this.status = status;
    this.body = body;
    this.text = text;
    this.#form = form;
    this.#of = of;
  }

  get headers(): readonly string[] {
    this.#headers ??= this.#form.headers(this.#of);
    return this.#headers;
  }

  get head(): string {
    this.#head ??= this.#form.head(this.#of, this.status);
    return this.#head;
  }
}

/**
 * An allow is exactly 200 with no body and no type: Envoy takes no other status for a yes, and nginx opens a connection
 * for each request if there is one byte of body.
 */
function allowForm(prefix: string): Form<Identity | undefined> {
  const common = ['Content-Length', '0', 'Cache-Control', 'no-store'];
  const render = identityRenderer(prefix);
  return {
    headers: identity => [...common, ...render(identity)],
    head: identityLines(prefix, renderHead(200, common)),
  };
}

const REFUSAL: Form<readonly string[]> = { headers: list => list, head: (list, status) => renderHead(status, list) };

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
  return new KeptAnswer(status, body, text, REFUSAL, headers);
}
