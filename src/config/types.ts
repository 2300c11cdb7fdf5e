import { BlockList, isIP, isIPv6 } from 'node:net';
import { MAX_PREFIX_LENGTH } from '../identity/headers.ts';
import { NAMESPACE, parseServiceAccount } from '../identity/identity.ts';

/** What JSON Schema says of a setting's value, for the chart's `values.schema.json`. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** How one kind of setting is read from text. */
export interface SettingType<T> {
  /** Completes the sentence "NAME must be …". */
  readonly rule: string;
  /** @returns `undefined` where the rule is broken. */
  readonly parse: (text: string) => T | undefined;
  readonly json: JsonSchema;
  /** How a value may be shown in an error; absent: as it is. */
  readonly show?: (text: string) => string;
}

/** Where a listener listens, and how it was written. */
export type Address =
  | { readonly kind: 'tcp'; readonly host: string | undefined; readonly port: number; readonly text: string }
  | { readonly kind: 'unix'; readonly path: string; readonly text: string };

export const address: SettingType<Address> = {
  rule: 'an address: host:port, :port, [v6]:port or unix:/path',
  parse(text) {
    if (text.startsWith('unix:')) {
      const path = text.slice('unix:'.length);
      return path.startsWith('/') && path.length <= 107 ? { kind: 'unix', path, text } : undefined;
    }
    const [, v6, name, digits] = /^(?:\[([^\]]*)\]|([^:\s[\]]*)):(\d{1,5})$/.exec(text) ?? [];
    const port = Number(digits);
    if (digits === undefined || port > 65_535) return undefined;
    if (v6 !== undefined) return isIPv6(v6) ? { kind: 'tcp', host: v6, port, text } : undefined;
    return { kind: 'tcp', host: name === '' ? undefined : name, port, text };
  },
  json: { type: 'string', pattern: '^(unix:/.+|(\\[[0-9a-fA-F:.]+\\]|[^:\\s\\[\\]]*):[0-9]{1,5})$' },
};

export function oneOf<const T extends string>(...values: readonly T[]): SettingType<T> {
  return {
    rule: `one of ${values.join(', ')}`,
    parse: text => values.find(value => value === text),
    json: { type: 'string', enum: values },
  };
}

export const flag: SettingType<boolean> = {
  rule: 'true or false',
  parse: text => (text === 'true' ? true : text === 'false' ? false : undefined),
  json: { type: 'boolean' },
};

export function statusOneOf<const T extends number>(...values: readonly T[]): SettingType<T> {
  return {
    rule: `one of ${values.join(', ')}`,
    parse: text => values.find(value => String(value) === text),
    json: { type: 'integer', enum: values },
  };
}

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
  const least = toMs(min) ?? 0;
  const most = toMs(max) ?? Number.POSITIVE_INFINITY;
  return {
    rule: `a duration from ${min} to ${max}, such as 500ms, 10s or 2m`,
    parse(text) {
      const ms = toMs(text);
      return ms !== undefined && ms >= least && ms <= most ? ms : undefined;
    },
    json: { type: 'string', pattern: '^(0|[0-9]{1,9}(ms|s|m))$' },
  };
}

function toMs(text: string): number | undefined {
  if (text === '0') return 0;
  const [, digits, unit] = /^(\d{1,9})(ms|s|m)$/.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * UNIT_MS[unit as keyof typeof UNIT_MS];
}

/** Splits on commas and newlines, as ConfigMap values need; trims, and drops empty items. */
export function splitList(text: string): string[] {
  return text
    .split(/[,\n]/)
    .map(item => item.trim())
    .filter(item => item !== '');
}

/** A list whose items all follow `isItem`. An empty one is allowed only where `mayBeEmpty` says so. */
export function list(rule: string, isItem: (item: string) => boolean, mayBeEmpty = false): SettingType<string[]> {
  return {
    rule,
    parse(text) {
      const items = [...new Set(splitList(text))];
      return items.every(isItem) && (mayBeEmpty || items.length > 0) ? items : undefined;
    },
    json: { type: 'array', items: { type: 'string', minLength: 1 }, ...(mayBeEmpty ? {} : { minItems: 1 }) },
  };
}

export const audiences = list(
  'a list of audiences, each of printable ASCII without spaces; empty asks for none',
  item => /^[\x21-\x7e]{1,512}$/.test(item),
  true,
);

export const namespaces = list('a list of at least one namespace name (an empty list could mean all or none)', item =>
  NAMESPACE.test(item),
);

export const serviceAccounts = list(
  'a list of at least one system:serviceaccount:<namespace>:<name> (an empty list could mean all or none)',
  item => parseServiceAccount(item) !== undefined,
);

export const peers = list('a list of IP addresses, CIDRs or unix', item => {
  if (item === 'unix') return true;
  const [host = '', bits, ...rest] = item.split('/');
  const version = isIP(host);
  if (version === 0 || rest.length > 0) return false;
  if (bits === undefined) return true;
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > (version === 6 ? 128 : 32)) return false;
  return new BlockList().addSubnet(host, Number(bits), version === 6 ? 'ipv6' : 'ipv4') === undefined;
});

const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^`|~-]+$/;

export const headerName: SettingType<string> = {
  rule: 'a header name, without underscores',
  parse: text => (HEADER_NAME.test(text) && text.length <= 128 ? text : undefined),
  json: { type: 'string', pattern: '^[A-Za-z0-9-]+$' },
};

export const headerPrefix: SettingType<string> = {
  rule: `a header name prefix of letters, digits and dashes that ends in a dash, at most ${MAX_PREFIX_LENGTH} characters`,
  parse: text => (/^[A-Za-z][A-Za-z0-9-]*-$/.test(text) && text.length <= MAX_PREFIX_LENGTH ? text : undefined),
  json: { type: 'string', pattern: '^[A-Za-z][A-Za-z0-9-]*-$', maxLength: MAX_PREFIX_LENGTH },
};

/** Headers that belong to the connection or to our own credential and may not be set by hand. */
const FORBIDDEN_HEADERS = new Set([
  'authorization',
  'connection',
  'content-length',
  'content-type',
  'expect',
  'host',
  'keep-alive',
  'te',
  'transfer-encoding',
  'upgrade',
]);

export const headerPairs: SettingType<Readonly<Record<string, string>>> = {
  rule: 'a list of name=value headers, none of them Authorization, Host or of the connection',
  parse(text) {
    const headers: Record<string, string> = {};
    for (const item of splitList(text)) {
      const at = item.indexOf('=');
      const name = item.slice(0, at).trim().toLowerCase();
      const value = item.slice(at + 1).trim();
      const good = at > 0 && HEADER_NAME.test(name) && /^[\x20-\x7e]*$/.test(value);
      if (!good || FORBIDDEN_HEADERS.has(name) || name in headers) return undefined;
      headers[name] = value;
    }
    return headers;
  },
  json: { type: 'array', items: { type: 'string', pattern: '^[^=]+=.*$' } },
  // May hold a proxy's token (dapr-api-token).
  show: () => 'a value that is not shown',
};

export const baseUrl: SettingType<string> = {
  rule: 'an http or https URL without credentials, query or fragment',
  parse(text) {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (url === undefined || !/^https?:$/.test(url.protocol) || !/^https?:\/\//i.test(text)) return undefined;
    if (url.username || url.password || /[?#]/.test(text)) return undefined;
    return url.origin + url.pathname.replace(/\/+$/, '');
  },
  json: { type: 'string', pattern: '^https?://[^?#@]+$' },
  show: text => JSON.stringify(text.replace(/\/\/[^/]*@/, '//[credentials]@')),
};

export const path: SettingType<string> = {
  rule: 'a path',
  parse: text => (text.includes('\0') ? undefined : text),
  json: { type: 'string' },
};

/** Several paths parted as in `PATH`. */
export const paths: SettingType<string[]> = {
  rule: 'one or more paths, parted by colons',
  parse: text => text.split(':').filter(one => one !== ''),
  json: { type: 'string' },
};

export const word: SettingType<string> = { rule: 'a name', parse: text => text, json: { type: 'string' } };
