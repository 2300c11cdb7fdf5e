import { rename, writeFile } from 'node:fs/promises';
import t, { type Test } from 'tap';
import { readConfig } from '../../src/config/load.ts';
import type { TlsReload } from '../../src/observability/counters.ts';
import { logger } from '../../src/observability/logging/logger.ts';
import { metrics } from '../../src/observability/metrics.ts';
import type { TlsMaterial } from '../../src/tls/listener-options.ts';
import { createTlsReloader, listenerTls } from '../../src/tls/tls-reloader.ts';
import { listenerFiles, listenerSecret } from '../fixtures/listener-files.ts';
import { pem } from '../fixtures/tls-server.ts';
import { until } from '../fixtures/until.ts';

type Line = [level: string, text: string, problem?: string];

async function startTrace(t: Test, more: { now?: () => number; pollEveryMs?: number } = {}) {
  const files = await listenerFiles(t);
  const lines: Line[] = [];
  const reloads: TlsReload[] = [];
  const loaded: string[] = [];
  const write = (level: string) => (fields: object, text: string) =>
    lines.push([level, text, ...('problem' in fields ? [String(fields.problem)] : [])] as Line);
  const log = { info: write('info'), warn: write('warn') } as unknown as Parameters<typeof createTlsReloader>[0]['log'];
  const tls = await createTlsReloader({ paths: files.paths, log, onReload: outcome => reloads.push(outcome), ...more });
  t.teardown(() => tls.stop());
  tls.onReplaced(({ cert }: TlsMaterial) => loaded.push(String(cert)));
  return { files, tls, lines, reloads, loaded };
}

const FAILED = 'TLS reload failed; keeping the current certificate';
const RELOADED = 'TLS certificate reloaded';

t.test('TLS files that are replaced by the same content cause no reload', async t => {
  const { files, tls, lines, reloads } = await startTrace(t);
  t.equal(String(tls.material.cert), pem('server.crt'));
  for (let read = 0; read < 3; read += 1) await tls.poll();
  await files.swap(listenerSecret('server'));
  for (let read = 0; read < 3; read += 1) await tls.poll();
  t.strictSame([lines, reloads], [[], []]);
});

t.test('new TLS files are loaded once two consecutive reads return the same content', async t => {
  const { files, tls, lines, reloads, loaded } = await startTrace(t);
  await files.swap(listenerSecret('server-by-name', 'other-ca'));
  await tls.poll();
  t.strictSame(loaded, []);
  await tls.poll();
  t.strictSame(loaded, [pem('server-by-name.crt')]);
  t.equal(String(tls.material.key), pem('server-by-name.key'));
  t.equal(String(tls.material.clientCa), pem('other-ca.crt'));
  await tls.poll();
  t.strictSame([lines, reloads], [[['info', RELOADED]], ['success']]);
});

t.test('TLS files written in place one after the other cause no failure', async t => {
  const { files, tls, reloads, loaded } = await startTrace(t);
  const { certFile, keyFile } = files.paths;
  const cert = pem('server-by-name.crt');
  for (const [path, text] of [
    [certFile, cert.slice(0, 100)],
    [certFile, cert],
    [keyFile, ''],
    [keyFile, pem('server-by-name.key')],
  ] as const) {
    await writeFile(path, text);
    await tls.poll();
  }
  t.strictSame([reloads, loaded], [[], []]);
  await tls.poll();
  t.strictSame([reloads, loaded], [['success'], [cert]]);
});

t.test(
  'unusable TLS files are reported once, the current certificate stays, and the next usable files are loaded',
  async t => {
    const { files, tls, lines, reloads, loaded } = await startTrace(t);
    const bad: Record<string, string>[] = [
      { 'tls.key': pem('client.key') },
      { 'tls.crt': 'not PEM' },
      { 'tls.key': '' },
      { 'ca.crt': pem('ca.crt').slice(0, 200) },
    ];
    for (const [index, change] of bad.entries()) {
      await files.swap({ ...listenerSecret('server-by-name'), ...change });
      for (let read = 0; read < 4; read += 1) await tls.poll();
      t.equal(lines.length, index + 1, 'one line');
    }
    t.strictSame(loaded, []);
    t.equal(String(tls.material.cert), pem('server.crt'));
    t.ok(lines.every(([level, text]) => level === 'warn' && text === FAILED));
    t.match(lines[0]?.[2], /^GATECAR_TLS_KEY_FILE must be a file that holds the key of the first certificate/);
    t.match(lines[3]?.[2], /^GATECAR_TLS_CLIENT_CA_FILE must be/);

    await files.swap(listenerSecret('server-by-name'));
    await tls.poll();
    await tls.poll();
    t.strictSame(loaded, [pem('server-by-name.crt')]);
    t.strictSame(reloads, ['failure', 'failure', 'failure', 'failure', 'success']);
  },
);

t.test(
  'missing TLS files keep the current certificate, and are reported once unless they are back at the next read',
  async t => {
    const { files, tls, lines, reloads } = await startTrace(t);
    const { certFile, keyFile } = files.paths;
    await rename(certFile, `${certFile}.away`);
    await tls.poll();
    await rename(`${certFile}.away`, certFile);
    await tls.poll();
    t.strictSame(lines, []);

    await rename(certFile, `${certFile}.away`);
    for (let read = 0; read < 4; read += 1) await tls.poll();
    const missing = (setting: string, path: string) =>
      ['warn', FAILED, `${setting} must be a file that can be read; got "${path}": ENOENT`] as const;
    t.strictSame([lines, reloads], [[missing('GATECAR_TLS_CERT_FILE', certFile)], ['failure']]);
    t.equal(String(tls.material.cert), pem('server.crt'));

    await rename(`${certFile}.away`, certFile);
    await rename(keyFile, `${keyFile}.away`);
    for (let read = 0; read < 3; read += 1) await tls.poll();
    t.strictSame(lines.slice(1), [missing('GATECAR_TLS_KEY_FILE', keyFile)]);
  },
);

t.test('an expired certificate causes a warning at start, and never replaces a loaded one', async t => {
  let now = Date.now();
  const { files, tls, lines, reloads } = await startTrace(t, { now: () => now });
  t.equal(tls.notAfterSeconds * 1000, Date.parse(new Date(tls.notAfterSeconds * 1000).toISOString()));
  now = tls.notAfterSeconds * 1000 + 100_000_000_000;
  await files.swap(listenerSecret('server-by-name'));
  await tls.poll();
  await tls.poll();
  t.strictSame([lines, reloads], [[['warn', FAILED, 'the new certificate has expired']], ['failure']]);
  const late = await startTrace(t, { now: () => now });
  t.strictSame(late.lines, [['warn', 'listener certificate has expired']]);
});

t.test('the TLS reloader polls after start and not after stop', async t => {
  const { files, tls, loaded } = await startTrace(t, { pollEveryMs: 1 });
  tls.start();
  await files.swap(listenerSecret('server-by-name'));
  await until(() => loaded.length === 1);
  tls.stop();
  const { tls: stopped } = await startTrace(t);
  stopped.stop();
  stopped.start();
  t.equal(loaded.length, 1);
});

t.test('invalid initial TLS files are an error', async t => {
  const { paths } = await listenerFiles(t);
  const options = { log: logger('silent'), onReload: () => {} };
  await t.rejects(createTlsReloader({ ...options, paths: { ...paths, keyFile: paths.certFile } }), {
    name: 'TlsFileError',
  });
  await t.rejects(createTlsReloader({ ...options, paths: { ...paths, clientCaFile: '/nowhere' } }), {
    message: /ENOENT/,
  });
});

t.test('TLS follows the settings, and the expiry of the certificate is exported as a metric', async t => {
  const { settings } = await listenerFiles(t);
  const counters = metrics('1');
  t.equal(await listenerTls(readConfig([], {}), counters, logger('silent')), undefined);
  t.notMatch(await counters.scrape(), /^gatecar_tls_certificate_expiration_timestamp_seconds \d/m);
  const tls = await listenerTls(readConfig([], settings), counters, logger('silent'));
  t.ok(tls?.material.clientCa);
  t.match(
    await counters.scrape(),
    new RegExp(`^gatecar_tls_certificate_expiration_timestamp_seconds ${tls?.notAfterSeconds}$`, 'm'),
  );
});
