import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { startWithFakeApi } from '../fixtures/gatecar.ts';
import { type RecordedRequest, readRecording } from '../fixtures/recorded.ts';
import { sendRaw } from '../fixtures/send-request.ts';
import { startApplication } from './fixtures/support/application.ts';
import { caddyExample, startCaddy } from './fixtures/support/caddy.ts';
import { envoyExample, startEnvoy } from './fixtures/support/envoy.ts';
import { type GatewayName, gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { haproxyExample, startHaproxy } from './fixtures/support/haproxy.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { exampleConfig, nginxMissing, startNginx } from './fixtures/support/nginx.ts';
import { startTcpCounter } from './fixtures/support/tcp-counter.ts';

// Records the files test/fixtures/recorded/<gateway>.http, which test/gateway/recorded.test.ts
// replays. With GATECAR_RECORD=1 they are written again, except for their leading comments.

const RECORDED = join(import.meta.dirname, '../fixtures/recorded');

/** Starts a gateway in front of gatecar and an application, both `host:port`. Returns its URL. */
type Start = (t: Test, gatecar: string, application: string) => Promise<{ readonly url: string }>;

const GATEWAYS: readonly [recording: string, needs: GatewayName, start: Start][] = [
  ['caddy', 'caddy', async (t, gatecar, application) => startCaddy(t, await caddyExample(), { gatecar, application })],
  [
    'envoy-http',
    'envoy',
    async (t, gatecar, application) =>
      startEnvoy(t, await envoyExample('envoy-http'), { gatecar, grpc: '', application }),
  ],
  [
    'haproxy',
    'haproxy',
    async (t, gatecar, application) => startHaproxy(t, await haproxyExample(), { gatecar, application }),
  ],
  [
    'nginx',
    'nginx',
    async (t, gatecar, application) =>
      startNginx(t, await exampleConfig([`http://${gatecar}`], `http://${application}`)),
  ],
  ['nginx-defaults', 'nginx', (t, gatecar, application) => startNginx(t, plainNginx(gatecar, application, CLOSED))],
  ['nginx-keepalive', 'nginx', (t, gatecar, application) => startNginx(t, plainNginx(gatecar, application, KEPT))],
];

/** The defaults of nginx before 1.29.7 and since. */
const CLOSED = 'proxy_http_version 1.0; proxy_set_header Connection close;';
const KEPT = 'proxy_http_version 1.1; proxy_set_header Connection "";';

/** Does not stop nginx from announcing the client's body. */
const plainNginx = (gatecar: string, application: string, connections: string) => `
events {}
http {
  upstream gatecar { server ${gatecar}; keepalive 8; }
  server {
    listen 8080;
    location / {
      auth_request /_gatecar;
      proxy_pass http://${application};
    }
    location = /_gatecar {
      internal;
      proxy_pass http://gatecar/auth;
      proxy_pass_request_body off;
      ${connections}
    }
  }
}
`;

const CLIENTS: readonly [title: string, lines: readonly string[], body?: string][] = [
  ['a read', ['GET /zones?a=b', 'User-Agent: curl/8.14.1', 'Accept: */*', 'Cookie: session=1', 'X-Request-ID: mine']],
  [
    'a write with a body of 12 bytes',
    ['POST /zones', 'User-Agent: curl/8.14.1', 'Content-Type: application/json', 'Content-Length: 12'],
    '{"zone":"a"}',
  ],
  [
    'a chunked write, with Expect',
    ['PUT /zones/a', 'User-Agent: curl/8.14.1', 'Transfer-Encoding: chunked', 'Expect: 100-continue'],
    'c\r\n{"zone":"a"}\r\n0\r\n\r\n',
  ],
  [
    'a websocket',
    [
      'GET /ws',
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ],
  ],
  [
    'forged headers and an unusual path',
    [
      'DELETE /zones/%7Ea//b/%2e%2e/c?q=%zz',
      'X-Auth-Request-User: system:admin',
      'x-auth-request-pod: forged',
      'X-Forwarded-Uri: /public',
      'X-Original-URI: /public',
      'X-Forwarded-For: 203.0.113.9',
      'Forwarded: for=203.0.113.9',
    ],
  ],
];

/** Matches the head of a response other than `100 Continue`. */
const RESPONSE = /(?:^|\r\n)HTTP\/1\.1 (?!100)\d{3} [\s\S]*\r\n\r\n/;

for (const [recording, needs, start] of GATEWAYS) {
  const missing = needs === 'nginx' ? nginxMissing() : gatewayMissing(needs);
  t.test(`${recording} sends what has been recorded`, { skip: skipWithout(missing) }, async t => {
    const gatecarServer = await startWithFakeApi();
    t.teardown(() => gatecarServer.stop());
    const token = gatecarServer.token();
    const [counter, application] = await Promise.all([startTcpCounter(t, gatecarServer.auth), startApplication(t)]);
    const gatecar = new URL(counter.url).host;
    const { url } = await start(t, gatecar, new URL(application.url).host);

    const requests: string[] = [];
    for (const [index, [title, [line, ...headers], body = '']] of CLIENTS.entries()) {
      const before = counter.sent.length;
      const head = [`${line} HTTP/1.1`, 'Host: app.example.com', `Authorization: Bearer ${token}`, ...headers];
      const answer = await sendRaw(url, `${head.join('\r\n')}\r\n\r\n${body}`, received => RESPONSE.test(received));
      t.match(answer, /^HTTP\/1\.1 (200|101) /m, title);
      const sent = counter.sent.slice(before).replaceAll(token, '{{token}}').replaceAll(gatecar, '127.0.0.1:9080');
      requests.push(`# ${title}\n${withFixedIds(sent, index).replaceAll('\r\n', '\n')}`);
    }

    const file = join(RECORDED, `${recording}.http`);
    const recorded = await readFile(file, 'utf8').catch(() => '');
    const text = requests.join('###\n');
    if (process.env['GATECAR_RECORD']) await writeFile(file, headOf(recorded) + text);
    else t.strictSame(inAnyOrder(readRecording(recorded)), inAnyOrder(readRecording(text)));
  });
}

/** Request ids differ in each run. */
function withFixedIds(sent: string, index: number): string {
  return sent
    .replace(/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, `0b7c9a52-4d3e-4f61-8a70-1c2d3e4f5a6${index + 1}`)
    .replace(/\b[0-9a-f]{32}\b/g, `7f0c1d2e3b4a5968776655443322100${index + 1}`);
}

/** HAProxy sends headers in a different order each time. */
function inAnyOrder(requests: readonly RecordedRequest[]): RecordedRequest[] {
  return requests.map(({ title, lines: [line = '', ...headers] }) => ({ title, lines: [line, ...headers.sort()] }));
}

/** Returns the description at the head of a recording, which no gateway sends. */
function headOf(text: string): string {
  const comments = /^(?:# .*\n)*/.exec(text)?.[0].split(/^/m) ?? [];
  return comments.slice(0, -1).join('');
}
