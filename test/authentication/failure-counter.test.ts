import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { failureCounter, rateLimitKey } from '../../src/authentication/failure-counter.ts';
import { fakeClock } from '../fixtures/clock.ts';

function counter(maxAddresses = 100) {
  const clock = fakeClock();
  return { clock, failures: failureCounter({ failures: 3, windowMs: 60_000, maxAddresses, now: clock.now }) };
}

t.test('an address past the failure limit is blocked until its window ends; other addresses are not', async t => {
  const { clock, failures } = counter();
  for (let failure = 0; failure < 3; failure += 1) {
    t.equal(failures.blockedForMs('192.0.2.1'), 0);
    failures.failed('192.0.2.1', {});
    clock.advance(1000);
  }
  t.equal(failures.blockedForMs('192.0.2.1'), 57_000);
  t.equal(failures.blockedForMs('192.0.2.2'), 0);
  failures.failed('192.0.2.1', {});
  t.equal(failures.blockedForMs('192.0.2.1'), 57_000, 'another failure does not extend the block');
  clock.advance(57_000);
  t.equal(failures.blockedForMs('192.0.2.1'), 0);
});

t.test('one rejection shared by 30 requests counts as one failure', async t => {
  const { failures } = counter();
  const rejection = {};
  for (let request = 0; request < 30; request += 1) failures.failed('192.0.2.1', rejection);
  t.equal(failures.blockedForMs('192.0.2.1'), 0);
});

t.test('after failures from 200,000 addresses only the configured maximum is stored', async t => {
  const { failures } = counter(1000);
  for (let n = 0; n < 200_000; n += 1)
    failures.failed(`2001:db8:${(n >> 16).toString(16)}:${(n & 65_535).toString(16)}::1`, {});
  t.equal(failures.size, 1000);
});

t.test('a stored address does not keep the long header it was sliced from in memory', async t => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const { failures } = counter(1000);
  const heapUsed = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = heapUsed();
  for (let n = 0; n < 500; n += 1) {
    const header = Buffer.from(`${'x'.repeat(60_000)}, 203.0.113.${100 + (n % 100)}`).toString('latin1');
    failures.failed(header.slice(60_002), {});
  }
  t.equal(failures.size, 100);
  t.ok(heapUsed() - before < 1_000_000);
});

t.test('IPv6 addresses are counted by /64; IPv4 and IPv4-mapped addresses individually', async t => {
  for (const [address, expectedKey] of [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['0:0:0:0:0:FFFF:C000:201', '192.0.2.1'],
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:0DB8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['2001:db8:1:2::', '2001:db8:1:2::/64'],
  ] as const) {
    t.equal(rateLimitKey(address), expectedKey, address);
  }
});

t.test('the failure counter uses the real clock by default', async t => {
  const failures = failureCounter({ failures: 1, windowMs: 60_000, maxAddresses: 1 });
  failures.failed('192.0.2.1', {});
  t.ok(failures.blockedForMs('192.0.2.1') > 0);
});
