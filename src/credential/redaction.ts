import { formsOf, squeeze, unescapings } from './encoded-forms.ts';
import { JSON_START, redactJwts, redactToken, revealToken, type Token } from './token.ts';
import { hasPartOf, partsOf } from './token-parts.ts';

/** Stands for a value that is left out as a whole. */
const REDACTED = '[token]';

/** Longest text that is examined, in characters; the rest is cut off. Bounds the time that one value can take. */
const MAX_TEXT_LENGTH = 4096;

/** Most of a presented credential that is compared, in characters. No listener accepts a longer header field. */
const MAX_SECRET_LENGTH = 64 * 1024;

/** Shorter credentials occur in other words by chance: only an exact copy of them is replaced. */
const MIN_SECRET_LENGTH = 8;

/** Returns a text without anything that a reader could turn back into a token. */
export type Redact = (text: string) => string;

/**
 * Removes from texts what a reader could turn back into a token: the credential that the request presented, or any JWT.
 *
 * A plain copy is replaced by `[token]` in place. If a token is left in any other form (escaped, base64, hexadecimal, cut, or
 * split by other characters), `[token]` replaces all of the text. Texts are cut after 4096 characters. The time is linear in
 * text and credential.
 *
 * @param presented what the request carried in `Authorization`, well-formed or not.
 */
export function redactor(presented?: Token): Redact {
  let secrets: readonly Buffer[] | undefined;
  return text => {
    const bounded = text.slice(0, MAX_TEXT_LENGTH);
    const replaced = presented === undefined ? bounded : redactToken(bounded, presented);
    // A credential of one character makes the text longer again.
    const plain = redactJwts(replaced.slice(0, MAX_TEXT_LENGTH));
    const { forms, isComplete } = formsOf(plain);
    if (!isComplete || forms.some(holdsJwt)) return REDACTED;
    const squeezed = forms.map(squeeze).filter(form => form.length >= MIN_SECRET_LENGTH);
    if (presented === undefined || squeezed.length === 0) return plain;
    secrets ??= secretsOf(presented);
    const parts = partsOf(squeezed);
    return secrets.some(secret => hasPartOf(parts, secret)) ? REDACTED : plain;
  };
}

/** As {@link redactor}, for texts of which no credential is known. */
export const redact: Redact = redactor();

/**
 * Whether a text holds the whole of a token, plainly or encoded. Unlike {@link redactor} it accepts a part of one: a token
 * may begin with a public identifier, which then names its user.
 */
export function repeatsToken(text: string, token: Token): boolean {
  const value = revealToken(token);
  if (text.includes(value)) return true;
  const squeezed = formsOf(text.slice(0, MAX_SECRET_LENGTH)).forms.map(squeeze);
  return secretsIn(value).some(secret => squeezed.some(form => form.includes(secret)));
}

function holdsJwt(text: string): boolean {
  return redactJwts(text) !== text || JSON_START.test(text.replace(/[^\w-]+/g, ''));
}

/** What must not be in a text, squeezed: the credential as it was presented, unescaped, and what `Basic` encodes. */
function secretsOf(presented: Token): readonly Buffer[] {
  const value = revealToken(presented).slice(0, MAX_SECRET_LENGTH);
  const [, basic] = /^basic +([A-Za-z0-9+/_-]+)/i.exec(value) ?? [];
  const decoded = basic === undefined ? value : Buffer.from(basic, 'base64').toString('latin1');
  return [...new Set([...unescapings(value), decoded])].flatMap(secretsIn);
}

/** A value and what every base64 of a text with the value in it contains (RFC 4648 §4), squeezed. */
function secretsIn(value: string): readonly Buffer[] {
  const bytes = Buffer.from(value, 'latin1');
  const aligned = [0, 1, 2].map(before => {
    const text = Buffer.concat([Buffer.alloc(before), bytes])
      .toString('base64')
      .replaceAll('=', '');
    // The characters at the ends also encode bits of the neighbours.
    const end = (before + bytes.length) % 3 === 0 ? text.length : text.length - 1;
    return text.slice(before === 0 ? 0 : before + 1, end);
  });
  return [value, ...aligned].map(squeeze).filter(secret => secret.length >= MIN_SECRET_LENGTH);
}
