import t from 'tap';
import { colorizer, marker } from '../../src/cli/output.ts';
import { type Introduction, introduction } from '../../src/dev/introduction.ts';

const page = (more: Partial<Introduction>) =>
  introduction({
    auth: { url: 'http://127.0.0.1:9080' },
    ops: { url: 'http://127.0.0.1:9081' },
    apiServerUrl: 'http://127.0.0.1:4000',
    directory: '/tmp/d',
    samples: [{ name: 'valid', title: 'valid token', token: 'x', result: { status: 200, detail: 'jane' } }],
    program: 'gatecar',
    paint: colorizer({ isTerminal: false }, {}),
    mark: marker({ isTerminal: false }, {}),
    ...more,
  });

t.test('paths with special characters are quoted for the shell', async t => {
  const text = page({ directory: "/tmp/it's", auth: { url: 'http://localhost', socketPath: '/run/a b' } });
  t.match(text, "curl -i -H @'/tmp/it'\\''s/valid' --unix-socket '/run/a b' http://localhost/auth\n");
});

t.test('a listener with TLS is asked without a check of its certificate', async t => {
  t.match(
    page({ auth: { url: 'https://127.0.0.1:9080' } }),
    'curl -i -H @/tmp/d/valid -k https://127.0.0.1:9080/auth\n',
  );
});

t.test('an ops listener on a Unix socket is named, and not offered to `gatecar top --url`', async t => {
  t.match(page({}), '  gatecar top --url=http://127.0.0.1:9081\n');
  const text = page({ ops: { url: 'http://localhost', socketPath: '/run/ops' } });
  t.match(text, '  ops         unix:/run/ops ');
  t.notMatch(text, 'gatecar top');
});

t.test('a rejected request is marked as one', async t => {
  const samples = [
    { name: 'expired', title: 'expired', token: 'x', result: { status: 401, detail: 'token_rejected' } },
  ];
  t.match(page({ samples }), '  denied 401  expired            token_rejected\n');
  const mark = marker({ isTerminal: true }, { NO_COLOR: '1' });
  t.match(page({ samples, mark }), '  ✗ 401  expired            token_rejected\n');
  t.match(page({}), '  ok     200  valid token        jane\n');
});

t.test('a rejected token is explained only if one was tried', async t => {
  t.notMatch(page({}), 'why a token is rejected');
  const samples = [
    { name: 'expired', title: 'expired', token: 'x', result: { status: 401, detail: 'token_rejected' } },
  ];
  t.match(page({ samples }), '  gatecar explain --kube-api-url=http://127.0.0.1:4000 /tmp/d/expired\n');
});

t.test('a request that could not be sent is neither a success nor a rejection', async t => {
  const valid = { name: 'valid', title: 'valid token', token: 'x' };
  const samples = [{ ...valid, result: { status: 0, detail: 'not tried: ECONNRESET' } }];
  t.match(page({ samples }), '  failed ---  valid token        not tried: ECONNRESET\n');
  const mark = marker({ isTerminal: true }, { NO_COLOR: '1' });
  t.match(page({ samples, mark }), '  ! ---  valid token        not tried: ECONNRESET\n');
  const unavailable = [{ ...valid, result: { status: 503, detail: 'overloaded' } }];
  t.match(page({ samples: unavailable }), '  failed 503  valid token        overloaded\n');
});
