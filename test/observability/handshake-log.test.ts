import t from 'tap';
import { HANDSHAKE_FAILURES, handshakeLog } from '../../src/observability/handshake-log.ts';
import { until } from '../fixtures/until.ts';

function open(windowMs?: number) {
  const lines: Record<string, unknown>[] = [];
  const counted: string[] = [];
  const log = {
    info: (fields: Record<string, unknown>, msg: string) => {
      lines.push({ ...fields, msg });
    },
  } as never;
  const handshakes = handshakeLog(log, (listener, reason) => counted.push(`${listener} ${reason}`), windowMs);
  return { handshakes, lines, counted };
}

t.test('every failed handshake is counted, the first per reason is logged, and the rest is summarised', async t => {
  const { handshakes, lines, counted } = open();
  const http = handshakes.of('http');
  for (let failure = 0; failure < 1000; failure += 1) http('timeout', undefined);
  http('plain_http', '192.0.2.1');
  handshakes.of('grpc')('timeout', '192.0.2.2');
  t.equal(counted.length, 1002);
  t.strictSame(new Set(counted), new Set(['http timeout', 'http plain_http', 'grpc timeout']));
  t.strictSame(lines, [
    { protocol: 'http', reason: 'timeout', peer: undefined, msg: 'TLS handshake failed' },
    { protocol: 'http', reason: 'plain_http', peer: '192.0.2.1', msg: 'TLS handshake failed' },
    { protocol: 'grpc', reason: 'timeout', peer: '192.0.2.2', msg: 'TLS handshake failed' },
  ]);
  handshakes.close();
  t.strictSame(lines.slice(3), [
    { protocol: 'http', reason: 'timeout', suppressed: 999, msg: 'more TLS handshakes failed' },
  ]);
});

t.test('the number of suppressed handshake failures is logged at the end of each window', async t => {
  const { handshakes, lines } = open(5);
  t.teardown(() => handshakes.close());
  for (let failure = 0; failure < 3; failure += 1) handshakes.of('http')('not_tls', undefined);
  await until(() => lines.length === 2);
  t.match(lines[1], { suppressed: 2 });
});

t.test('the peer address of a failed handshake is truncated to 64 characters', async t => {
  const { handshakes, lines } = open();
  t.teardown(() => handshakes.close());
  handshakes.of('http')('other', `fe80::1%${'x'.repeat(1000)}`);
  t.equal(String(lines[0]?.['peer']).length, 64);
});

t.test('every handshake failure reason is a snake_case label value', async t => {
  for (const reason of HANDSHAKE_FAILURES) t.match(reason, /^[a-z]+(_[a-z]+)*$/);
});
