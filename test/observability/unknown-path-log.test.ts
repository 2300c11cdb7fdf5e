import t from 'tap';
import { revealToken } from '../../src/credential/token.ts';
import { unknownPathLog } from '../../src/observability/unknown-path-log.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { unsignedJwt } from '../fixtures/unsigned-jwt.ts';

const MESSAGE = 'unknown path; responded 404. Gateways must call /auth';

function setUp() {
  const clock = fakeClock();
  const lines: unknown[] = [];
  const log = unknownPathLog({ warn: (...line: unknown[]) => lines.push(line) } as never, clock.now);
  return { clock, lines, log };
}

t.test('one request per minute is logged, and the number of those in between', async t => {
  const { clock, lines, log } = setUp();
  log('/', []);
  log('/second', []);
  clock.advance(59_999);
  log('/third', []);
  clock.advance(1);
  log('/fourth', []);
  t.strictSame(lines, [
    [{ path: '/' }, MESSAGE],
    [{ suppressed: 2 }, 'more requests to unknown paths'],
    [{ path: '/fourth' }, MESSAGE],
  ]);
});

t.test('a path is logged without query and fragment, without tokens, and cut', async t => {
  const token = revealToken(unsignedJwt({ sub: 'me' }));
  for (const [target, path] of [
    ['/x?access_token=secret', '/x'],
    ['/x#secret', '/x'],
    ['', ''],
    ['http://user:secret@gatecar/x', '/x'],
    ['HTTP://user:secret@gatecar', ''],
    [`/${'x'.repeat(300)}`, `/${'x'.repeat(199)}`],
  ] as const) {
    const { lines, log } = setUp();
    log(target, []);
    t.strictSame(lines, [[{ path }, MESSAGE]]);
  }
  const { lines, log } = setUp();
  log(`/${token}`, []);
  t.notMatch(JSON.stringify(lines), token);
  const opaque = setUp();
  opaque.log('/verify/opaque-secret-token', ['Authorization', 'Bearer opaque-secret-token']);
  t.strictSame(opaque.lines, [[{ path: '/verify/[token]' }, MESSAGE]]);
});

t.test('without a clock, the first request is logged', async t => {
  const lines: unknown[] = [];
  const log = unknownPathLog({ warn: (...line: unknown[]) => lines.push(line) } as never);
  log('/', []);
  log('/', []);
  t.equal(lines.length, 1);
});
