import { isIP, isIPv6 } from 'node:net';
import { MAX_PREFIX_LENGTH } from '../identity/identity-headers.ts';
import { integerRangePattern } from './integer-range-pattern.ts';
import { CONTROL, list, type SettingType, splitList, WITHOUT_CONTROLS } from './setting-types.ts';

/** A listener's address, parsed and as written. */
export type Address =
  | { readonly kind: 'tcp'; readonly host: string | undefined; readonly port: number; readonly text: string }
  | { readonly kind: 'unix'; readonly path: string; readonly text: string };

/** The system's limit for the path of a Unix socket. */
const MAX_SOCKET_PATH_BYTES = 107;

export const address: SettingType<Address> = {
  rule: `an address: host:port, :port, [v6]:port or unix:/path of at most ${MAX_SOCKET_PATH_BYTES} bytes`,
  parse(text) {
    if (text.startsWith('unix:')) {
      const path = text.slice('unix:'.length);
      const good = /^\/./.test(path) && !CONTROL.test(path) && Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES;
      return good ? { kind: 'unix', path, text } : undefined;
    }
    const [, v6, name, digits] = /^(?:\[([^\]]*)\]|([A-Za-z0-9._-]*)):(\d{1,5})$/.exec(text) ?? [];
    const port = Number(digits);
    if (digits === undefined || port > 65_535) return undefined;
    if (v6 !== undefined) return isIPv6(v6) ? { kind: 'tcp', host: v6, port, text } : undefined;
    return { kind: 'tcp', host: name === '' ? undefined : name, port, text };
  },
  json: {
    type: 'string',
    pattern: `^(unix:/${WITHOUT_CONTROLS}{1,106}|(\\[[0-9a-fA-F:.]+(%[A-Za-z0-9._-]+)?\\]|[A-Za-z0-9._-]*):[0-9]{1,5})$`,
  },
  format: ({ text }) => text,
};

/** A socket's mode. The owner can always connect; only read and write bits matter for a socket. */
export const socketMode: SettingType<number> = {
  rule: 'an octal mode such as 0660: read and write for the owner, any of the two for group and others',
  parse: text => (/^0?6[0246]{2}$/.test(text) ? Number.parseInt(text, 8) : undefined),
  json: { type: 'string', pattern: '^0?6[0246]{2}$' },
  format: mode => `0${mode.toString(8)}`,
};

const OCTET = integerRangePattern(0, 255);
const IPV4_PEER = `${OCTET}(\\.${OCTET}){3}(/${integerRangePattern(0, 32)})?`;
const IPV6_PEER = `[0-9a-fA-F.:]*:[0-9a-fA-F.:]*(/${integerRangePattern(0, 128)})?`;

export const peers = list({
  rule: 'a list of at least one IP address, CIDR or unix',
  item: new RegExp(`^(unix|${IPV4_PEER}|${IPV6_PEER})$`),
  isItem(item) {
    const host = item.replace(/\/.*/, '');
    const bits = Number(item.slice(host.length + 1));
    const version = isIP(host);
    return item === 'unix' || (version === 4 && bits <= 32) || (version === 6 && bits <= 128);
  },
});

/** RFC 9110's `token` without underscores, which gateways drop or treat as dashes. */
const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^`|~-]{1,128}$/;

export const headerName: SettingType<string> = {
  rule: 'a header name of at most 128 characters, without underscores',
  parse: text => (HEADER_NAME.test(text) ? text : undefined),
  json: { type: 'string', pattern: HEADER_NAME.source },
};

export const headerPrefix: SettingType<string> = {
  rule: `a header name prefix of letters, digits and dashes that ends in a dash, at most ${MAX_PREFIX_LENGTH} characters`,
  parse: text => (/^[A-Za-z][A-Za-z0-9-]*-$/.test(text) && text.length <= MAX_PREFIX_LENGTH ? text : undefined),
  json: { type: 'string', pattern: '^[A-Za-z][A-Za-z0-9-]*-$', maxLength: MAX_PREFIX_LENGTH },
};

/**
 * Headers that belong to the connection or to gatecar's own credential. Operators may not set them.
 */
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

/** Makes a pattern case-insensitive. No flag for this works in both Go and JavaScript. */
function anyCase(text: string): string {
  return text.replaceAll(/[a-z]/g, letter => `[${letter}${letter.toUpperCase()}]`);
}

export const headerPairs: SettingType<Readonly<Record<string, string>>> = {
  rule: 'a list of name=value headers in printable ASCII, each name once, none of them Authorization, Host or about body or connection',
  parse(text) {
    const headers: Record<string, string> = {};
    for (const item of splitList(text)) {
      const at = item.indexOf('=');
      const name = item.slice(0, at).trim().toLowerCase();
      const value = item.slice(at + 1).trim();
      const good = at > 0 && HEADER_NAME.test(name) && /^[\x20-\x7e]*$/.test(value);
      if (!good || FORBIDDEN_HEADERS.has(name) || Object.hasOwn(headers, name)) return undefined;
      headers[name] = value;
    }
    return headers;
  },
  json: {
    type: 'array',
    items: {
      type: 'string',
      pattern: "^[A-Za-z0-9!#$%&'*+.^`|~-]{1,128} *=[ -+\\--~]*$",
      not: { pattern: `^(${[...FORBIDDEN_HEADERS].map(anyCase).join('|')}) *=.*$` },
    },
  },
  // The value may contain a proxy's token (dapr-api-token).
  show: () => 'a value that is not shown',
  format: headers =>
    Object.keys(headers)
      .map(name => `${name}=(not shown)`)
      .join(','),
};

export const baseUrl: SettingType<string> = {
  rule: 'an http or https URL without credentials, query or fragment',
  parse(text) {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (url === undefined || !/^https?:\/\//i.test(text)) return undefined;
    if (url.username || url.password || /[?#]/.test(text)) return undefined;
    return url.origin + url.pathname.replace(/\/+$/, '');
  },
  json: { type: 'string', pattern: '^[hH][tT][tT][pP][sS]?://([^/?#@: ]+|\\[[^/?#@ ]+\\])(:[0-9]{1,5})?(/[^?#]*)?$' },
  // A password may contain any character. A query may contain a token.
  show: text =>
    JSON.stringify(text.replace(/^(https?:\/\/)?.*@/is, '$1[credentials]@').replace(/([?#]).+$/s, '$1[not shown]')),
};
