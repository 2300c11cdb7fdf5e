import { MAX_REDACTED_TEXT_LENGTH, MAX_SECRET_LENGTH, MIN_REDACTED_LENGTH } from '../limits/constants.ts';
import { formsOf, squeeze, unescapings } from './encoded-forms.ts';
import { JSON_START, redactJwts, redactToken, revealToken, type Token } from './token.ts';
import { hasPartOf, partsOf } from './token-parts.ts';

/** Replaces a whole value. */
const REDACTED = '[token]';

/** Returns a text without anything that a reader could convert back into a token. */
export type Redact = (text: string) => string;

/**
 * Returns a function that removes from texts what a reader could convert back into a token: the
 * credential that the request presented, or any JWT.
 *
 * A plain copy is replaced by `[token]` in place. If a token remains in another form, `[token]`
 * replaces the whole text. Other forms are escaped, base64, hexadecimal, cut, or split by other
 * characters. Texts are cut after 4096 characters. The time is linear in text and credential.
 *
 * @param presented the request's `Authorization` credential, well-formed or not.
 */
export function redactor(presented?: Token): Redact {
  let secrets: readonly Buffer[] | undefined;
  return text => {
    const bounded = text.slice(0, MAX_REDACTED_TEXT_LENGTH);
    const replaced = presented === undefined ? bounded : redactToken(bounded, presented);
    // Replacing a credential of one character lengthens the text, so it is cut again.
    const plain = redactJwts(replaced.slice(0, MAX_REDACTED_TEXT_LENGTH));
    const { forms, isComplete } = formsOf(plain);
    if (!isComplete || forms.some(holdsJwt)) return REDACTED;
    const squeezed = forms.map(squeeze).filter(form => form.length >= MIN_REDACTED_LENGTH);
    if (presented === undefined || squeezed.length === 0) return plain;
    secrets ??= secretsOf(presented);
    const parts = partsOf(squeezed);
    return secrets.some(secret => hasPartOf(parts, secret)) ? REDACTED : plain;
  };
}

/** Works like {@link redactor} without a presented credential. */
export const redact: Redact = redactor();

/**
 * Whether a text contains a whole token, plain or encoded. Unlike {@link redactor}, it allows a
 * part of a token. A token may start with a public identifier, which may also be its username.
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

/**
 * Returns what a text must not contain, squeezed: the credential as presented, the credential
 * unescaped, and what `Basic` encodes.
 */
function secretsOf(presented: Token): readonly Buffer[] {
  const value = revealToken(presented).slice(0, MAX_SECRET_LENGTH);
  const [, basic] = /^basic +([A-Za-z0-9+/_-]+)/i.exec(value) ?? [];
  const decoded = basic === undefined ? value : Buffer.from(basic, 'base64').toString('latin1');
  return [...new Set([...unescapings(value), decoded])].flatMap(secretsIn);
}

/**
 * Returns a value and, for each of the three alignments, the characters that its base64 always has
 * (RFC 4648 §4), squeezed.
 */
function secretsIn(value: string): readonly Buffer[] {
  const bytes = Buffer.from(value, 'latin1');
  const aligned = [0, 1, 2].map(before => {
    const text = Buffer.concat([Buffer.alloc(before), bytes])
      .toString('base64')
      .replaceAll('=', '');
    // The characters at both ends also encode bits of the adjacent bytes.
    const end = (before + bytes.length) % 3 === 0 ? text.length : text.length - 1;
    return text.slice(before === 0 ? 0 : before + 1, end);
  });
  return [value, ...aligned].map(squeeze).filter(secret => secret.length >= MIN_REDACTED_LENGTH);
}
