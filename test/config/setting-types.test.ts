import t from 'tap';
import * as types from '../../src/config/setting-types.ts';

const times = (character: string, count: number) => character.repeat(count);

t.test('oneOf accepts only the exact words', async t => {
  const { parse } = types.oneOf('full', 'generic');
  t.equal(parse('generic'), 'generic');
  for (const text of ['', 'Full', 'full ', 'ful', 'full,generic']) t.equal(parse(text), undefined, text);
});

t.test('a boolean is true or false', async t => {
  t.equal(types.boolean.parse('true'), true);
  t.equal(types.boolean.parse('false'), false);
  for (const text of ['', 'TRUE', '1', '0', 'yes', 'true ']) t.equal(types.boolean.parse(text), undefined, text);
});

t.test('statusOneOf accepts only the given statuses', async t => {
  const { parse } = types.statusOneOf(401, 403);
  t.equal(parse('403'), 403);
  for (const text of ['', '503', '0401', '401.0', '4e2', ' 401']) t.equal(parse(text), undefined, text);
});

t.test('a whole number is within its inclusive limits', async t => {
  const { parse } = types.wholeNumber(1, 100);
  for (const [text, value] of [
    ['1', 1],
    ['100', 100],
    ['007', 7],
  ] as const)
    t.equal(parse(text), value, text);
  for (const text of ['', '0', '101', '-1', '+1', '1.0', '1e1', '0x1', ' 1', 'Infinity', '1'.repeat(20)]) {
    t.equal(parse(text), undefined, text);
  }
});

t.test('a duration is a number of ms, s or m within its inclusive limits', async t => {
  const { parse } = types.duration('10ms', '2m');
  for (const [text, ms] of [
    ['10ms', 10],
    ['500ms', 500],
    ['1s', 1000],
    ['2m', 120_000],
    ['120s', 120_000],
  ] as const) {
    t.equal(parse(text), ms, text);
  }
  for (const text of ['', '0', '9ms', '121s', '3m', '10', '1 s', '1S', '1.5s', '-1s', '1h', '1s500ms', 's', ' 1s']) {
    t.equal(parse(text), undefined, JSON.stringify(text));
  }
});

t.test('a duration of 0 needs no unit, if 0 is allowed', async t => {
  for (const text of ['0', '0s', '0ms', '0m']) t.equal(types.duration('0', '10m').parse(text), 0, text);
});

t.test('an amount of memory is a number of Mi or Gi within its inclusive limits', async t => {
  const { parse, json } = types.bytes('64Mi', '2Gi');
  const pattern = new RegExp((json as { pattern: string }).pattern);
  for (const [text, bytes] of [
    ['64Mi', 64 * 1024 ** 2],
    ['2048Mi', 2 * 1024 ** 3],
    ['1Gi', 1024 ** 3],
    ['2Gi', 2 * 1024 ** 3],
  ] as const) {
    t.equal(parse(text), bytes, text);
    t.match(text, pattern);
  }
  for (const text of [
    '',
    '0',
    '63Mi',
    '2049Mi',
    '3Gi',
    '128',
    '128M',
    '128MB',
    '128mi',
    '1.5Gi',
    '-1Gi',
    ' 1Gi',
    '1Ti',
  ]) {
    t.equal(parse(text), undefined, JSON.stringify(text));
    t.notMatch(text, pattern);
  }
});

t.test('a rate is a count, a slash and a window', async t => {
  const { parse } = types.rate;
  t.strictSame(parse('20/1m'), { count: 20, windowMs: 60_000 });
  t.strictSame(parse('1/1s'), { count: 1, windowMs: 1000 });
  t.strictSame(parse('999999/60m'), { count: 999_999, windowMs: 3_600_000 });
  for (const text of [
    '',
    '20',
    '20/',
    '/1m',
    '0/1m',
    '-1/1m',
    '1000000/1m',
    '20/0s',
    '20/61m',
    '20/999ms',
    '20 / 1m',
    '20/1m/1m',
  ]) {
    t.equal(parse(text), undefined, JSON.stringify(text));
  }
});

t.test('splitList splits on commas and newlines, trims items and drops empty ones', async t => {
  t.strictSame(types.splitList(' a,b\n c \r\n,,\n d e\t'), ['a', 'b', 'c', 'd e']);
  t.strictSame(types.splitList(' ,\n'), []);
});

t.test('a list with an invalid item is rejected, and repeated items are dropped', async t => {
  t.strictSame(types.namespaces.parse('b,a,b'), ['b', 'a']);
  t.equal(types.namespaces.parse('a,B'), undefined);
});

t.test('an audience is printable ASCII without spaces, and the list may be empty', async t => {
  const { parse } = types.audiences;
  t.strictSame(parse('https://kubernetes.default.svc,bindcar,a=b;c"d'), [
    'https://kubernetes.default.svc',
    'bindcar',
    'a=b;c"d',
  ]);
  t.strictSame(parse(''), []);
  t.ok(parse(times('a', 512)));
  for (const text of ['a b', 'ü', 'a\tb', 'a\0', times('a', 513)])
    t.equal(parse(text), undefined, JSON.stringify(text));
});

t.test('a namespace is a DNS label', async t => {
  t.strictSame(types.namespaces.parse('kube-system,1,a'), ['kube-system', '1', 'a']);
  for (const text of ['', 'A', 'a_b', 'a.b', '-a', 'a-', '*', times('a', 64)])
    t.equal(types.namespaces.parse(text), undefined, text);
});

t.test('a ServiceAccount is given by its full username', async t => {
  const { parse } = types.serviceAccounts;
  t.strictSame(parse('system:serviceaccount:a:b.c'), ['system:serviceaccount:a:b.c']);
  for (const text of [
    '',
    'a:b',
    'system:serviceaccount:a',
    'system:serviceaccount:a:b:c',
    'system:serviceaccount:-a:b',
    'system:serviceaccount:a:*',
    'system:node:a',
  ]) {
    t.equal(parse(text), undefined, text);
  }
});

t.test('paths and names may have any characters except control characters', async t => {
  for (const { parse } of [types.path, types.nonControlText]) {
    for (const text of ['/a b/ü', 'relative', 'arn:aws:eks:eu-west-1:1:cluster/dev', ' ']) t.equal(parse(text), text);
    for (const text of ['/a\n', '\r', 'a\0b', '\x7f', '\x1f']) t.equal(parse(text), undefined, JSON.stringify(text));
  }
});

t.test('paths are separated by colons, and at least one is required', async t => {
  t.strictSame(types.paths.parse('/a'), ['/a']);
  t.strictSame(types.paths.parse(':/a::/b c:'), ['/a', '/b c']);
  for (const text of ['', ':', '::', '/a:/b\n']) t.equal(types.paths.parse(text), undefined, JSON.stringify(text));
});
