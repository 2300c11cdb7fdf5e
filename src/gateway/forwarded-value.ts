import { unescapings } from '../credential/encoded-forms.ts';
import type { Redact } from '../credential/redaction.ts';
import { MAX_EXAMINED_LENGTH, MAX_FORWARDED_LENGTH } from '../limits/constants.ts';

/**
 * The start of the query or fragment of a URI, also if it is percent-encoded any number of times.
 */
const QUERY = /[?#]|%(?:25)*(?:3f|23)/i;

/**
 * The scheme and slashes of a URI in absolute form (RFC 9112 §3.2.2). `HOST` matches the host and
 * port after them, without userinfo.
 */
const ORIGIN = /^(?:[a-z][a-z0-9+.-]{0,31}:)?[\\/]{2}/i;
const HOST = /^(?:\[[\da-f:.]+\]|[a-z0-9._-]*)(?::\d{1,5})?$/i;

/** Names that precede a secret, whatever the secret looks like. */
const NAMED_SECRET = /(?:token|secret|password)\s*=|authorization\s*[=:]|\b(?:bearer|basic)[\s+:=]/i;

/** Replaces a value that is dropped completely. */
const CUT = '[cut]';

/**
 * Returns a URI without query, fragment and userinfo, which can hold secrets. If the part before
 * the path is not a plain host, it may be userinfo that other parsers split differently. The URI is
 * then dropped completely.
 */
export function pathOf(uri: string): string {
  const query = uri.search(QUERY);
  const path = query < 0 ? uri : uri.slice(0, query);
  if (/^[\\/](?![\\/])/.test(path) || path === '*') return path;
  const [origin = ''] = ORIGIN.exec(path) ?? [];
  const rest = path.slice(origin.length);
  const end = rest.search(/[\\/]/);
  const authority = end < 0 ? rest : rest.slice(0, end);
  const host = authority.slice(authority.lastIndexOf('@') + 1);
  return HOST.test(host) ? `${origin}${host}${end < 0 ? '' : rest.slice(end)}` : CUT;
}

/**
 * Returns a value that is safe to log. Tokens are removed, because a client can put a token
 * anywhere. Control characters are removed, because a terminal would interpret them (JSON does not
 * escape U+0080 to U+009F).
 */
export function sanitize(value: string, withoutToken: Redact): string {
  const redacted = withoutToken(value.slice(0, MAX_EXAMINED_LENGTH));
  if (unescapings(redacted).some(form => NAMED_SECRET.test(form))) return CUT;
  return redacted.slice(0, MAX_FORWARDED_LENGTH).replace(/[^\x20-\x7e]/g, '?');
}
