import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { checkMaterial, TlsFileError, tlsFiles } from '../../src/tls/tls-files.ts';
import { listenerFiles } from '../fixtures/listener-files.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { pem } from '../fixtures/tls-server.ts';

const paths = { certFile: '/c', keyFile: '/k', clientCaFile: '/a' };
const bytes = (text: string) => Buffer.from(text);
const GOOD = { cert: pem('server.crt'), key: pem('server.key'), clientCa: pem('ca.crt') };

/** @returns the error message for the material with some parts replaced, or an empty text. */
function faultOf(change: Partial<typeof GOOD>): string {
  const { cert, key, clientCa } = { ...GOOD, ...change };
  try {
    checkMaterial({ cert: bytes(cert), key: bytes(key), clientCa: bytes(clientCa) }, paths);
    return '';
  } catch (error) {
    if (error instanceof TlsFileError) return error.message;
    throw error;
  }
}

t.test('matching certificate, key and client CA are accepted, with their expiry', async t => {
  t.equal(faultOf({}), '');
  t.equal(faultOf({ cert: `${pem('server.crt')}${pem('ca.crt')}` }), '', 'a certificate with its chain');
  const material = { cert: bytes(GOOD.cert), key: bytes(GOOD.key), clientCa: undefined };
  const checked = checkMaterial(material, { ...paths, clientCaFile: undefined });
  t.ok(checked.notAfter.getTime() > Date.UTC(2100, 0));
});

t.test('invalid TLS material is reported by setting and rule, and not quoted', async t => {
  const cert = 'GATECAR_TLS_CERT_FILE must be a file that holds PEM certificates and nothing else; got "/c"';
  const key = 'GATECAR_TLS_KEY_FILE must be a file that holds a PEM private key, not encrypted; got "/k"';
  const clientCa = 'GATECAR_TLS_CLIENT_CA_FILE must be a file that holds PEM certificates and nothing else; got "/a"';
  for (const text of ['', 'not PEM', GOOD.key, GOOD.cert.slice(0, -40)]) t.equal(faultOf({ cert: text }), cert);
  for (const text of ['', 'not PEM', GOOD.cert, GOOD.key.slice(0, -40)]) t.equal(faultOf({ key: text }), key);
  for (const text of ['', 'not PEM', GOOD.key, `${GOOD.clientCa}-----BEGIN`])
    t.equal(faultOf({ clientCa: text }), clientCa);
});

t.test('a key of another certificate and a weak certificate are reported as such', async t => {
  t.equal(
    faultOf({ key: pem('client.key') }),
    'GATECAR_TLS_KEY_FILE must be a file that holds the key of the first certificate in GATECAR_TLS_CERT_FILE; got "/k"',
  );
  t.equal(
    faultOf({ cert: pem('server-weak.crt'), key: pem('server-weak.key') }),
    'GATECAR_TLS_CERT_FILE must be a file that holds a certificate strong enough for TLS; got "/c"',
  );
});

t.test('an unreadable TLS file is reported with setting and error code', async t => {
  const { paths: files } = await listenerFiles(t);
  for (const [part, setting] of [
    ['certFile', 'GATECAR_TLS_CERT_FILE'],
    ['keyFile', 'GATECAR_TLS_KEY_FILE'],
    ['clientCaFile', 'GATECAR_TLS_CLIENT_CA_FILE'],
  ] as const) {
    await t.rejects(tlsFiles({ ...files, [part]: '/nowhere' }).read(), {
      name: 'TlsFileError',
      message: `${setting} must be a file that can be read; got "/nowhere": ENOENT`,
    });
  }
});

t.test('each read goes to the disk, and unchanged content is returned as the same object', async t => {
  const directory = tempDir(t, { cert: 'a', key: 'b' });
  const files = tlsFiles({
    certFile: join(directory, 'cert'),
    keyFile: join(directory, 'key'),
    clientCaFile: undefined,
  });
  const first = await files.read();
  t.strictSame([String(first.cert), String(first.key), first.clientCa], ['a', 'b', undefined]);
  await writeFile(join(directory, 'key'), 'new');
  const second = await files.read();
  t.equal(second.cert, first.cert);
  t.strictSame(second.key, await readFile(join(directory, 'key')));
});

t.test('a TLS file that becomes unreadable keeps its last content and is reported', async t => {
  const { paths: files } = await listenerFiles(t);
  const reader = tlsFiles(files);
  const first = await reader.read();
  t.equal(reader.problem, undefined);
  for (const [setting, path] of [
    ['GATECAR_TLS_CLIENT_CA_FILE', files.clientCaFile],
    ['GATECAR_TLS_KEY_FILE', files.keyFile],
    ['GATECAR_TLS_CERT_FILE', files.certFile],
  ] as const) {
    await rename(path, `${path}.away`);
    t.strictSame(await reader.read(), first);
    t.equal(reader.problem, `${setting} must be a file that can be read; got "${path}": ENOENT`);
  }
  const withoutCa = tlsFiles({
    certFile: `${files.certFile}.away`,
    keyFile: `${files.keyFile}.away`,
    clientCaFile: undefined,
  });
  await withoutCa.read();
  t.equal(withoutCa.problem, undefined);
});
