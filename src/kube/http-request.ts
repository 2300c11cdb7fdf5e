import type { Dispatcher } from 'undici';

/** An HTTP response from the API server, or from a proxy at its address. */
export interface HttpResponse {
  readonly status: number;
  readonly body: string;
  /** `Retry-After` in seconds, if it is a number. */
  readonly retryAfterSeconds: number | undefined;
  /** `max-age` of `Cache-Control` in seconds, if present. */
  readonly maxAgeSeconds?: number | undefined;
  /**
   * `Date` in milliseconds since the epoch, in whole seconds; `undefined` if absent, malformed, or
   * of a cached response.
   */
  readonly sentAtMs?: number | undefined;
}

/**
 * Sends a request and reads the whole response.
 *
 * @param request its `signal` aborts the request and closes the connection that it uses.
 * @throws undici's error if no whole response arrives.
 */
export async function sendRequest(dispatcher: Dispatcher, request: Dispatcher.RequestOptions): Promise<HttpResponse> {
  const { statusCode, headers, body } = await dispatcher.request(request);
  return answerOf(statusCode, headers, await body.text());
}

function answerOf(status: number, headers: Readonly<Record<string, unknown>>, body: string): HttpResponse {
  const retryAfter = Number(headers['retry-after'] ?? Number.NaN);
  return {
    status,
    body,
    retryAfterSeconds: Number.isInteger(retryAfter) && retryAfter >= 0 ? retryAfter : undefined,
    maxAgeSeconds: maxAge(headers['cache-control']),
    sentAtMs: sentAt(headers),
  };
}

/** The format of `Date` (RFC 9110 §5.6.7). `Date.parse` alone would accept almost any text. */
const IMF_FIXDATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/**
 * Reads `Date`. A response with an `Age` comes from a cache (RFC 9111 §5.1), so its `Date` is too
 * old.
 */
function sentAt({ date, age }: Readonly<Record<string, unknown>>): number | undefined {
  if (typeof date !== 'string' || age !== undefined || !IMF_FIXDATE.test(date)) return undefined;
  return Date.parse(date) || undefined;
}

function maxAge(cacheControl: unknown): number | undefined {
  const [, seconds] = /\bmax-age=(\d{1,9})\b/i.exec(String(cacheControl ?? '')) ?? [];
  return seconds === undefined ? undefined : Number(seconds);
}
