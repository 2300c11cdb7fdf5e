import t from 'tap';
import { certificatesIn } from '../../src/tls/pem.ts';
import { pem } from '../fixtures/tls-server.ts';

const ca = pem('ca.crt');
const otherCa = pem('other-ca.crt');
const subjects = (text: string) => certificatesIn(Buffer.from(text)).map(({ subject }) => subject);

t.test('a PEM bundle is read whole and in order, with any text between its blocks', async t => {
  t.strictSame(subjects(ca), ['CN=gatecar-test-ca']);
  t.strictSame(subjects(`# first\n${ca}\n# second\n${otherCa}`), ['CN=gatecar-test-ca', 'CN=gatecar-other-ca']);
  t.strictSame(subjects(ca.replaceAll('\n', '\r\n')), ['CN=gatecar-test-ca']);
});

t.test('a PEM bundle that is truncated within a block is an error', async t => {
  const whole = `${otherCa}${ca}`;
  // A cut between two blocks leaves a valid, smaller bundle.
  const ends = [otherCa.trimEnd().length, whole.trimEnd().length];
  for (let length = 0; length < whole.trimEnd().length; length += 1) {
    const isWhole = length >= (ends[0] ?? 0) && length < otherCa.length + '-----BEGIN'.length;
    if (!isWhole) t.throws(() => subjects(whole.slice(0, length)), `${length} bytes`);
  }
});

t.test('a PEM bundle with anything but certificates is an error', async t => {
  for (const text of ['', 'not PEM', pem('server.key'), `${ca}${pem('server.key')}`]) t.throws(() => subjects(text));
  t.throws(() => subjects(ca.replace(/[A-Za-z0-9]{60}\n/, '')));
  t.throws(() => subjects('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'));
});
