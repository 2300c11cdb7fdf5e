import { NAMESPACE, parseServiceAccount } from '../identity/identity.ts';
import { integerRangePattern } from './integer-range-pattern.ts';

/**
 * The JSON schema of a setting's value, for the chart's `values.schema.json`. Helm evaluates
 * patterns with Go's regular expressions, which have no look-around.
 */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** How one type of setting is parsed from text. */
export interface SettingType<T> {
  /** Completes the sentence "NAME must be …". */
  readonly rule: string;
  /** @returns `undefined` if the text breaks the rule. */
  readonly parse: (text: string) => T | undefined;
  readonly json: JsonSchema;
  /** Formats a value for an error message without secrets; if absent, it is shown as it is. */
  readonly show?: (text: string) => string;
  /** Formats a value as a user would write it, without secrets; if absent, `String` does. */
  format?(value: T): string;
}

/** One of these words, exactly as written. */
export function oneOf<const T extends string>(...values: readonly T[]): SettingType<T> {
  return {
    rule: `one of ${values.join(', ')}`,
    parse: text => values.find(value => value === text),
    json: { type: 'string', enum: values },
  };
}

export const boolean: SettingType<boolean> = {
  rule: 'true or false',
  parse: text => (text === 'true' ? true : text === 'false' ? false : undefined),
  json: { type: 'boolean' },
};

/**
 * Accepts former words for values as well. Errors and help name only the current words.
 *
 * @param former the current value of each former word.
 */
export function withFormerValues<T extends string>(
  type: SettingType<T>,
  former: Readonly<Record<string, NoInfer<T>>>,
): SettingType<T> {
  return {
    ...type,
    parse: text => (Object.hasOwn(former, text) ? former[text] : type.parse(text)),
    json: { ...type.json, enum: [...(type.json['enum'] as readonly string[]), ...Object.keys(former)] },
  };
}

/** One of these HTTP statuses. */
export function statusOneOf<const T extends number>(...values: readonly T[]): SettingType<T> {
  return {
    rule: `one of ${values.join(', ')}`,
    parse: text => values.find(value => String(value) === text),
    json: { type: 'integer', enum: values },
  };
}

/** A decimal number without sign, point or exponent, `min` and `max` included. */
export function wholeNumber(min: number, max: number): SettingType<number> {
  return {
    rule: `a whole number from ${min} to ${max}`,
    parse(text) {
      const value = Number(text);
      return /^\d{1,9}$/.test(text) && value >= min && value <= max ? value : undefined;
    },
    json: { type: 'integer', minimum: min, maximum: max },
  };
}

const UNIT_MS = { ms: 1, s: 1000, m: 60_000 } as const;

/** A duration in milliseconds, as `500ms`, `10s` or `2m`; `0` needs no unit. */
export function duration(min: string, max: string): SettingType<number> {
  const [least, most] = [toMs(min), toMs(max)];
  const units = Object.entries(UNIT_MS).map(
    ([unit, ms]) => integerRangePattern(Math.ceil(least / ms), Math.floor(most / ms)) + unit,
  );
  return {
    rule: `a duration from ${min} to ${max}, such as 500ms, 10s or 2m`,
    parse(text) {
      const ms = toMs(text);
      return ms >= least && ms <= most ? ms : undefined;
    },
    json: { type: 'string', pattern: `^(${[...(least === 0 ? ['0'] : []), ...units].join('|')})$` },
    format: ms => (ms === 0 ? '0s' : inLargestUnit(ms, UNIT_MS)),
  };
}

/** Formats a number other than 0, a multiple of the smallest unit, without a fraction. */
function inLargestUnit(value: number, units: Readonly<Record<string, number>>): string {
  const divisors = Object.entries(units).filter(([, size]) => value % size === 0);
  return divisors.map(([unit, size]) => `${value / size}${unit}`).at(-1) as string;
}

function toMs(text: string): number {
  if (text === '0') return 0;
  const [, digits, unit] = /^(\d{1,9})(ms|s|m)$/.exec(text) ?? [];
  return digits === undefined ? Number.NaN : Number(digits) * UNIT_MS[unit as keyof typeof UNIT_MS];
}

const UNIT_BYTES = { Mi: 1024 ** 2, Gi: 1024 ** 3 } as const;

/** A number of bytes, in the form of Kubernetes memory quantities: `256Mi` or `1Gi`. */
export function bytes(min: string, max: string): SettingType<number> {
  const [least, most] = [toBytes(min), toBytes(max)];
  const units = Object.entries(UNIT_BYTES).map(
    ([unit, size]) => integerRangePattern(Math.ceil(least / size), Math.floor(most / size)) + unit,
  );
  return {
    rule: `an amount of memory from ${min} to ${max}, such as 256Mi or 1Gi`,
    parse(text) {
      const value = toBytes(text);
      return value >= least && value <= most ? value : undefined;
    },
    json: { type: 'string', pattern: `^(${units.join('|')})$` },
    format: value => inLargestUnit(value, UNIT_BYTES),
  };
}

function toBytes(text: string): number {
  const [, digits, unit] = /^(\d{1,9})(Mi|Gi)$/.exec(text) ?? [];
  return digits === undefined ? Number.NaN : Number(digits) * UNIT_BYTES[unit as keyof typeof UNIT_BYTES];
}

export interface Rate {
  readonly count: number;
  readonly windowMs: number;
}

/** A count per time window, such as `20/1m`. The window is in milliseconds. */
export const rate: SettingType<Rate> = {
  rule: 'a number from 1 to 999999, a slash and a time from 1s to 60m, such as 20/1m',
  parse(text) {
    const [, count, window = ''] = /^([1-9]\d{0,5})\/(.+)$/.exec(text) ?? [];
    const windowMs = duration('1s', '60m').parse(window);
    return count === undefined || windowMs === undefined ? undefined : { count: Number(count), windowMs };
  },
  json: { type: 'string', pattern: `^[1-9][0-9]{0,5}/${String(duration('1s', '60m').json['pattern']).slice(1)}` },
  format: ({ count, windowMs }) => `${count}/${inLargestUnit(windowMs, UNIT_MS)}`,
};

/** Splits on commas and newlines, for values in ConfigMaps. Trims items and drops empty ones. */
export function splitList(text: string): string[] {
  return text
    .split(/[,\n]/)
    .map(item => item.trim())
    .filter(item => item !== '');
}

interface ListOptions {
  readonly rule: string;
  /** The pattern of each item; also part of the JSON schema. */
  readonly item: RegExp;
  /** A further condition that a pattern cannot express. */
  readonly isItem?: (item: string) => boolean;
  readonly mayBeEmpty?: boolean;
}

/** A list of items, each of which matches a pattern. Repeated items count once. */
export function list({ rule, item, isItem = () => true, mayBeEmpty = false }: ListOptions): SettingType<string[]> {
  return {
    rule,
    parse(text) {
      const items = [...new Set(splitList(text))];
      if (items.length === 0 && !mayBeEmpty) return undefined;
      return items.every(one => item.test(one) && isItem(one)) ? items : undefined;
    },
    json: { type: 'array', items: { type: 'string', pattern: item.source }, ...(!mayBeEmpty && { minItems: 1 }) },
  };
}

export const audiences = list({
  rule: 'a list of audiences, each of at most 512 printable ASCII characters without spaces; empty asks for none',
  item: /^[!-+\--~]{1,512}$/,
  mayBeEmpty: true,
});

export const namespaces = list({
  rule: 'a list of at least one namespace name (an empty list could mean all or none)',
  item: NAMESPACE,
});

export const serviceAccounts = list({
  rule: 'a list of at least one system:serviceaccount:<namespace>:<name> (an empty list could mean all or none)',
  item: /^system:serviceaccount:[a-z0-9-]{1,63}:[a-z0-9.-]{1,253}$/,
  isItem: item => parseServiceAccount(item) !== undefined,
});

/**
 * Control characters. No path or name has them on purpose, but an extra line end in a ConfigMap
 * adds one.
 */
export const CONTROL = /[\x00-\x1f\x7f]/;
export const WITHOUT_CONTROLS = '[^\\x00-\\x1f\\x7f]';

export const path: SettingType<string> = {
  rule: 'a path without control characters',
  parse: text => (CONTROL.test(text) ? undefined : text),
  json: { type: 'string', pattern: `^${WITHOUT_CONTROLS}*$` },
};

/** Several paths, separated by colons as in `PATH`. */
export const paths: SettingType<string[]> = {
  rule: 'one or more paths without control characters, separated by colons',
  parse(text) {
    const found = text.split(':').filter(one => one !== '');
    return found.length > 0 && !CONTROL.test(text) ? found : undefined;
  },
  json: { type: 'string', pattern: `^(${WITHOUT_CONTROLS}*[^\\x00-\\x1f\\x7f:]${WITHOUT_CONTROLS}*)?$` },
  format: value => value.join(':'),
};

export const nonControlText: SettingType<string> = {
  rule: 'a name without control characters',
  parse: text => (CONTROL.test(text) ? undefined : text),
  json: { type: 'string', pattern: `^${WITHOUT_CONTROLS}*$` },
};
