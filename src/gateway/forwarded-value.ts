import { unescapings } from '../credential/encoded-forms.ts';
import type { Redact } from '../credential/redaction.ts';

/** Longest value that is taken over from a header, in characters. */
const MAX_VALUE_LENGTH = 256;

/** Longest value that is examined for a token, in characters: room for what is longer than what replaces it. */
const MAX_EXAMINED_LENGTH = 1024;

/** Where the query or the fragment of a URI begins, percent-encoded any number of times too. */
const QUERY = /[?#]|%(?:25)*(?:3f|23)/i;

/** The scheme and the authority of a URI in absolute form (RFC 9112 §3.2.2), without userinfo. */
const ORIGIN = /^(?:[a-z][a-z0-9+.-]{0,31}:)?[\\/]{2}/i;
const HOST = /^(?:\[[\da-f:.]+\]|[a-z0-9._-]*)(?::\d{1,5})?$/i;

/** Names after which a secret stands, whatever it looks like. */
const NAMED_SECRET = /(?:token|secret|password)\s*=|authorization\s*[=:]|\b(?:bearer|basic)[\s+:=]/i;

/** Stands for a value that is left out as a whole. */
const CUT = '[cut]';

/**
 * Returns a URI without query, fragment and userinfo, which hold secrets. An authority that is no plain host may be userinfo that
 * is split in another way: then the URI is cut.
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
 * Returns a value as it may be logged: without a token, which a client may have put anywhere, and without control characters, which
 * a terminal would obey (JSON lets U+0080 to U+009F pass).
 */
export function sanitize(value: string, withoutToken: Redact): string {
  const redacted = withoutToken(value.slice(0, MAX_EXAMINED_LENGTH));
  if (unescapings(redacted).some(form => NAMED_SECRET.test(form))) return CUT;
  return redacted.slice(0, MAX_VALUE_LENGTH).replace(/[^\x20-\x7e]/g, '?');
}
