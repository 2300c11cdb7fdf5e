import t from 'tap';
import { type Credential, parseAuthorization } from '../../src/credential/authorization-header.ts';
import {
  clientAddressForLimit,
  readForwarded,
  traceContextFromProxy,
  trustedProxies,
} from '../../src/gateway/forwarded-headers.ts';

const ABSENT: Credential = { kind: 'absent' };
const TRUSTED = trustedProxies(['10.0.0.0/8', 'fd00::/8', '192.0.2.1', 'unix']);

/** Reads the headers as sent by `peer`. */
function read(peer: string | undefined, headers: Record<string, string | string[]>, clientIpHeader?: string) {
  return readForwarded(peer, headers, ABSENT, { trusted: TRUSTED, clientIpHeader });
}

const clientAddress = (peer: string | undefined, chain: string | string[]): string | undefined =>
  read(peer, { 'x-forwarded-for': chain }, 'x-forwarded-for').clientAddress;

t.test('a proxy is trusted by address, network or Unix socket, and none is trusted by default', async t => {
  for (const peer of ['10.1.2.3', 'fd00::1', '192.0.2.1', '', undefined]) t.ok(TRUSTED.has(peer), String(peer));
  for (const peer of ['11.0.0.1', 'fc00::1', '192.0.2.2', '::1', 'unix', '10.0.0', 'not-an-address']) {
    t.notOk(TRUSTED.has(peer), peer);
  }
  for (const peer of ['127.0.0.1', '::1', '', undefined]) t.notOk(trustedProxies([]).has(peer), String(peer));
});

t.test('an IPv4-mapped IPv6 peer is matched by its IPv4 address', async t => {
  t.ok(TRUSTED.has('::ffff:10.1.2.3'));
  t.notOk(TRUSTED.has('::ffff:11.0.0.1'));
});

t.test('an untrusted peer yields its address and nothing from its headers', async t => {
  const headers = {
    'x-request-id': '1',
    'x-original-uri': '/a',
    'x-original-method': 'POST',
    'x-forwarded-for': '192.0.2.9',
  };
  const expected = {
    clientAddress: '198.51.100.7',
    requestId: undefined,
    method: undefined,
    uri: undefined,
    trace: undefined,
  };
  t.strictSame(read('198.51.100.7', headers, 'x-forwarded-for'), expected);
  const socket = readForwarded('', headers, ABSENT, { trusted: trustedProxies([]), clientIpHeader: undefined });
  t.strictSame(socket, { ...expected, clientAddress: undefined }, 'a Unix socket has no address');
});

t.test(
  'request ID, method and path are read from a trusted proxy, under each header name that gateways use',
  async t => {
    const names = {
      requestId: ['x-request-id'],
      method: ['x-original-method', 'x-forwarded-method'],
      uri: ['x-original-uri', 'x-original-url', 'x-forwarded-uri', 'x-envoy-original-path'],
    };
    for (const [key, headers] of Object.entries(names)) {
      for (const header of headers) t.match(read('10.0.0.1', { [header]: 'value' }), { [key]: 'value' }, header);
    }
    t.match(read(undefined, { 'x-request-id': 'value' }), { requestId: 'value', clientAddress: undefined });
  },
);

t.test('the first non-empty header counts, and a repeated one is ignored', async t => {
  const headers = { 'x-original-uri': '', 'x-original-url': '/first', 'x-forwarded-uri': '/second' };
  t.equal(read('10.0.0.1', headers).uri, '/first');
  t.equal(read('10.0.0.1', { 'x-request-id': ['a', 'b'] }).requestId, undefined, 'a repeated header is ambiguous');
});

t.test('query and fragment are removed, because they may contain secrets', async t => {
  t.equal(read('10.0.0.1', { 'x-original-uri': '/a/b?password=1#x' }).uri, '/a/b');
  t.equal(read('10.0.0.1', { 'x-original-uri': '/a#token' }).uri, '/a');
});

t.test('the token is redacted from every forwarded value that repeats it', async t => {
  const credential = parseAuthorization('Bearer abc.def');
  const headers = { 'x-request-id': 'abc.def', 'x-original-uri': '/x/abc.def/abc.def', 'x-original-method': 'abc.def' };
  const forwarded = readForwarded('10.0.0.1', headers, credential, { trusted: TRUSTED, clientIpHeader: undefined });
  t.match(forwarded, { requestId: '[token]', uri: '/x/[token]/[token]', method: '[token]' });
});

t.test('any JWT is redacted, even if the credential is malformed', async t => {
  const jwt = 'eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl';
  const { uri } = readForwarded(
    '10.0.0.1',
    { 'x-original-uri': `/x/${jwt}` },
    { kind: 'malformed' },
    { trusted: TRUSTED, clientIpHeader: undefined },
  );
  t.equal(uri, '/x/[token]');
});

t.test('values are truncated to 256 characters after the token is redacted', async t => {
  t.equal(read('10.0.0.1', { 'x-request-id': 'r'.repeat(5000) }).requestId, 'r'.repeat(256));
  const credential = parseAuthorization(`Bearer ${'s'.repeat(400)}`);
  const headers = { 'x-request-id': `${'r'.repeat(200)}${'s'.repeat(400)}` };
  const { requestId } = readForwarded('10.0.0.1', headers, credential, { trusted: TRUSTED, clientIpHeader: undefined });
  t.equal(requestId, `${'r'.repeat(200)}[token]`);
});

t.test('the client is the rightmost address that is not a trusted proxy', async t => {
  t.equal(clientAddress('10.0.0.1', '203.0.113.9'), '203.0.113.9');
  t.equal(
    clientAddress('10.0.0.1', '1.1.1.1, 203.0.113.9, 10.0.0.2,10.0.0.3'),
    '203.0.113.9',
    'entries left of the client address are not trusted',
  );
  t.equal(
    clientAddress('10.0.0.1', ['1.1.1.1', '203.0.113.9', '10.0.0.2']),
    '203.0.113.9',
    'several headers form one chain',
  );
  t.equal(clientAddress('10.0.0.1', '2001:db8::1'), '2001:db8::1');
  t.equal(clientAddress(undefined, '203.0.113.9'), '203.0.113.9', 'behind a Unix socket');
});

t.test('if every address is trusted, the client is the leftmost', async t => {
  t.equal(clientAddress('10.0.0.1', '10.0.0.3, 10.0.0.2'), '10.0.0.3');
});

t.test('an address with a port is read without the port', async t => {
  t.equal(clientAddress('10.0.0.1', '1.1.1.1, 203.0.113.9:1234'), '203.0.113.9');
  t.equal(clientAddress('10.0.0.1', '203.0.113.9:1, 10.0.0.2:2'), '203.0.113.9');
  t.equal(clientAddress('10.0.0.1', '[2001:db8::1]:443'), '2001:db8::1');
  t.equal(clientAddress('10.0.0.1', '[2001:db8::1]'), '2001:db8::1');
});

t.test('of a chain of thousands of addresses, at most 34 are checked', async t => {
  let checks = 0;
  const trusted = {
    has(address: string | undefined) {
      checks += 1;
      return TRUSTED.has(address);
    },
  };
  const header = Array.from({ length: 6000 }, () => '10.0.0.2').join();
  const options = { trusted, clientIpHeader: 'x-forwarded-for', limitsClients: true };
  t.equal(clientAddressForLimit('10.0.0.1', { 'x-forwarded-for': `203.0.113.9,${header}` }, options), undefined);
  t.ok(checks <= 34, `${checks} checks`);
});

t.test('an invalid address ends the search: entries to its left are not trusted', async t => {
  t.equal(clientAddress('10.0.0.1', '203.0.113.9, unknown, 10.0.0.2'), '10.0.0.2');
  for (const entry of [
    '203.0.113.9:',
    '203.0.113.9:a',
    ':1234',
    '[203.0.113.9',
    '[]:1',
    '[::1%a]:1',
    '::1:x',
    '1:2:3',
  ]) {
    t.equal(clientAddress('10.0.0.1', entry), '10.0.0.1', entry);
  }
  t.equal(clientAddress('10.0.0.1', ''), '10.0.0.1');
  t.equal(clientAddress('', 'nonsense'), undefined);
});

t.test('without a configured or present client address header, the client is the peer', async t => {
  t.equal(read('10.0.0.1', { 'x-forwarded-for': '203.0.113.9' }).clientAddress, '10.0.0.1');
  t.equal(read('10.0.0.1', {}, 'x-real-ip').clientAddress, '10.0.0.1');
  t.equal(read('10.0.0.1', { 'x-real-ip': '203.0.113.9' }, 'x-real-ip').clientAddress, '203.0.113.9');
});

t.test('an IPv4-mapped client address is reported as IPv4', async t => {
  t.equal(read('::ffff:198.51.100.7', {}).clientAddress, '198.51.100.7');
  t.equal(read('::ffff:10.1.2.3', {}).clientAddress, '10.1.2.3');
});

t.test('a client address header called "constructor" does not read Object.prototype', async t => {
  t.equal(read('10.1.2.3', {}, 'constructor').clientAddress, '10.1.2.3');
});

t.test('a client is counted only if the limit is on and a trusted proxy reports its address', async t => {
  const limitKey = (
    peer: string | undefined,
    value: string,
    limitsClients = true,
    header: string | undefined = 'x-real-ip',
  ) => clientAddressForLimit(peer, { 'x-real-ip': value }, { trusted: TRUSTED, clientIpHeader: header, limitsClients });
  t.equal(limitKey('10.0.0.1', '203.0.113.7'), '203.0.113.7');
  t.equal(limitKey('::ffff:10.0.0.1', '203.0.113.7'), '203.0.113.7');
  t.equal(limitKey('203.0.113.9', '203.0.113.7'), undefined, 'an untrusted peer is ignored');
  t.equal(limitKey('10.0.0.1', '10.0.0.2'), undefined, 'a trusted gateway is never limited');
  t.equal(limitKey('10.0.0.1', 'nonsense'), undefined);
  t.equal(limitKey(undefined, 'nonsense'), undefined);
  t.equal(limitKey('10.0.0.1', '203.0.113.7', false), undefined, 'the limit is off');
  t.equal(
    clientAddressForLimit('10.0.0.1', {}, { trusted: TRUSTED, clientIpHeader: undefined, limitsClients: true }),
    undefined,
  );
});

t.test('a trace is read only from a trusted proxy, and dropped if it contains the token', async t => {
  const [traceId, spanId] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];
  const headers = { traceparent: `00-${traceId}-${spanId}-01`, tracestate: 'a=b' };
  const options = { trusted: TRUSTED, clientIpHeader: undefined };
  const trace = { traceId, spanId, flags: 1, state: 'a=b' };
  for (const authorization of ['', 'Bearer abc', 'Bearer a-long-token-of-a-client']) {
    const credential = parseAuthorization(authorization);
    t.strictSame(readForwarded('10.0.0.1', headers, credential, options).trace, trace);
    t.strictSame(traceContextFromProxy('::ffff:10.0.0.1', headers, credential, options), trace);
    t.equal(readForwarded('203.0.113.1', headers, credential, options).trace, undefined);
    t.equal(traceContextFromProxy('203.0.113.1', headers, credential, options), undefined);
  }
  for (const token of [traceId, spanId, traceId.slice(4, 20)]) {
    t.equal(
      traceContextFromProxy('10.0.0.1', headers, parseAuthorization(`Bearer ${token}`), options),
      undefined,
      token,
    );
  }
});

t.test('an address or a trace that contains the token is dropped, even if the credential is malformed', async t => {
  const hex = '20010db8aaaabbbbccccddddeeeeffff';
  const address = '2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff';
  const options = { trusted: TRUSTED, clientIpHeader: 'x-real-ip' };
  const headers = { 'x-real-ip': address, traceparent: `00-${hex}-00f067aa0ba902b7-01` };
  for (const authorization of [`Bearer ${hex.replace('20010db8', '')}`, `Bearer "${hex}"`, `Basic ${hex}`]) {
    const { clientAddress, trace } = readForwarded('10.0.0.1', headers, parseAuthorization(authorization), options);
    t.strictSame({ clientAddress, trace }, { clientAddress: undefined, trace: undefined }, authorization);
  }
  const { clientAddress, trace } = readForwarded(
    '10.0.0.1',
    headers,
    parseAuthorization('Bearer other-token'),
    options,
  );
  t.match({ clientAddress, trace }, { clientAddress: address, trace: { traceId: hex } });
});

t.test('a trace whose tracestate contains a JWT is dropped, even without a credential', async t => {
  const state = 'eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl';
  const headers = { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' };
  t.equal(read('10.0.0.1', { ...headers, tracestate: `a=${state}` }).trace, undefined);
  t.ok(read('10.0.0.1', headers).trace);
});

t.test('the token of a malformed credential is redacted from the path, encoded or not', async t => {
  const token = 'opaque-0123456789-abcdefghij';
  const options = { trusted: TRUSTED, clientIpHeader: undefined };
  for (const authorization of [
    `Bearer  ${token}`,
    `Bearer "${token}"`,
    `Basic ${token}`,
    `Bearer ${token}, Bearer x`,
  ]) {
    for (const uri of [
      `/x/${token}`,
      `/x/${encodeURIComponent(token)}`,
      `/x/${btoa(token)}`,
      `/x/%6Fpaque-0123456789`,
    ]) {
      const credential = parseAuthorization(authorization);
      const forwarded = readForwarded('10.0.0.1', { 'x-original-uri': uri }, credential, options);
      t.notMatch(forwarded.uri, /0123456789|[A-Za-z0-9]{20}/, `${authorization} ${uri}`);
    }
  }
});
