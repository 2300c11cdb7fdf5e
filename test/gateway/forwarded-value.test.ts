import t from 'tap';
import { redactor } from '../../src/credential/redaction.ts';
import { pathOf, sanitize } from '../../src/gateway/forwarded-value.ts';

t.test('pathOf keeps the path of a URI, and its scheme and host', async t => {
  const cases: [uri: string, path: string][] = [
    ['/a/b', '/a/b'],
    ['/a/b?c=d#e', '/a/b'],
    ['/a#b?c', '/a'],
    ['*', '*'],
    ['?a=b', ''],
    ['https://example.org/a?b', 'https://example.org/a'],
    ['https://example.org:8443', 'https://example.org:8443'],
    ['http://[2001:db8::1]:80/a', 'http://[2001:db8::1]:80/a'],
    ['//example.org/a', '//example.org/a'],
    ['example.org:443', 'example.org:443'],
    ['/@scope/a', '/@scope/a'],
  ];
  for (const [uri, path] of cases) t.equal(pathOf(uri), path, uri);
});

t.test('a query is removed even if its question mark is percent-encoded repeatedly', async t => {
  for (const mark of ['%3F', '%3f', '%253F', '%25253f', '%23', '%2523']) {
    t.equal(pathOf(`/a${mark}access_token=x`), '/a', mark);
  }
  t.equal(pathOf('/100%25/a'), '/100%25/a');
});

t.test('userinfo is removed, and a URI whose authority is not a plain host is replaced', async t => {
  for (const userinfo of ['user:secret', 'secret', 'user:se:cret', 'a@b:secret', '']) {
    t.equal(pathOf(`https://${userinfo}@example.org/a`), 'https://example.org/a', userinfo);
    t.equal(pathOf(`//${userinfo}@example.org/a`), '//example.org/a', userinfo);
    t.equal(pathOf(`${userinfo}@example.org:443`), 'example.org:443', userinfo);
  }
  for (const uri of [
    'https://user:sec/ret@example.org/a',
    'https:user:secret@exa mple.org',
    'https://user%3Asecret%40example.org/a',
    '/\\user:secret/x@example.org',
    'data:text/plain,secret',
  ]) {
    t.equal(pathOf(uri), '[cut]', uri);
  }
});

t.test('a value that names a secret is replaced, however it is escaped', async t => {
  const plain = (text: string) => sanitize(text, redactor());
  for (const text of [
    '/a/access_token=opaque',
    '/a/id_token%3Dopaque',
    '/a;password=hunter2',
    '/a/%42earer%2520opaque',
    'Basic dXNlcjpwdw',
    'authorization: x',
  ]) {
    t.equal(plain(text), '[cut]', text);
  }
  for (const text of ['/oauth/token', '/basics/bearers', '/v1/token:revoke']) t.equal(plain(text), text);
});

t.test('a value is printable ASCII of at most 256 characters', async t => {
  t.equal(sanitize('\x9b2J\u00e9\x00', redactor()), '?2J??');
  t.equal(sanitize('r'.repeat(5000), redactor()).length, 256);
});

t.test('values of 64 KiB are sanitized in less than a second of CPU time', async t => {
  const usedBefore = process.cpuUsage();
  for (const piece of ['%25', '%3', 'token ', '@', '/', '\\', 'a:', '[']) {
    pathOf(piece.repeat(64 * 1024));
    sanitize(piece.repeat(64 * 1024), redactor());
  }
  const { user } = process.cpuUsage(usedBefore);
  t.ok(user < 1_000_000, `${user} µs of CPU`);
});
