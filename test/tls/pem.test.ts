import t from 'tap';
import { certificatesIn } from '../../src/tls/pem.ts';
import { pem } from '../fixtures/tls-server.ts';

const ca = pem('ca.crt');
const other = pem('other-ca.crt');
const subjects = (text: string) => certificatesIn(Buffer.from(text)).map(({ subject }) => subject);

t.test('a bundle is read whole and in order, whatever is written between its blocks', async t => {
  t.strictSame(subjects(ca), ['CN=gatecar-test-ca']);
  t.strictSame(subjects(`# ours\n${ca}\n# theirs\n${other}`), ['CN=gatecar-test-ca', 'CN=gatecar-other-ca']);
  t.strictSame(subjects(ca.replaceAll('\n', '\r\n')), ['CN=gatecar-test-ca']);
});

t.test('a bundle that is cut short anywhere within a block is none', async t => {
  const whole = `${other}${ca}`;
  // What is left where the cut is between the blocks is a smaller bundle.
  const ends = [other.trimEnd().length, whole.trimEnd().length];
  for (let length = 0; length < whole.trimEnd().length; length += 1) {
    const isWhole = length >= (ends[0] ?? 0) && length < other.length + '-----BEGIN'.length;
    if (!isWhole) t.throws(() => subjects(whole.slice(0, length)), `${length} bytes`);
  }
});

t.test('what is no certificate makes the whole bundle none', async t => {
  for (const text of ['', 'rubbish', pem('server.key'), `${ca}${pem('server.key')}`]) t.throws(() => subjects(text));
  t.throws(() => subjects(ca.replace(/[A-Za-z0-9]{60}\n/, '')));
  t.throws(() => subjects('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'));
});
