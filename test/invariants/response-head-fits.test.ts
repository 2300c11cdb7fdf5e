import type { AddressInfo } from 'node:net';
import t from 'tap';
import { createResponseRenderer } from '../../src/gateway/auth-response.ts';
import { createHttpListener } from '../../src/gateway/http/listener.ts';
import type { Identity } from '../../src/identity/identity.ts';
import { IDENTITY_HEADERS, MAX_PREFIX_LENGTH, maxValueBytes } from '../../src/identity/identity-headers.ts';
import { EMPTY_IDENTITY, MY_APP } from '../fixtures/identities.ts';
import { roomyLimits } from '../fixtures/limits.ts';
import { RENDERER_OPTIONS } from '../fixtures/renderer-options.ts';
import { NASTY_PIECES, seeded } from '../fixtures/seeded-random.ts';
import { sendRaw } from '../fixtures/send-request.ts';

const PREFIX = 'X-Auth-Request-';
const LONGEST_PREFIX = `X-${'P'.repeat(MAX_PREFIX_LENGTH - 3)}-`;

t.test('the whole response head stays under 4 KiB, as Node writes it', async t => {
  const repeated = (count: number, item: string): string[] =>
    Array.from({ length: count }, (_, index) => `${item}-${index}`);
  const extras = { pod: 'p'.repeat(10_240), podUid: 'q'.repeat(10_240), node: 'n'.repeat(10_240) };
  const random = seeded(4096);
  const identities: Record<string, Partial<Identity>> = {
    '300 groups': { groups: repeated(300, 'system:group:of-some-length') },
    '300 groups that need encoding': { groups: repeated(300, 'größe,ä') },
    '10 KB extras': extras,
    'a 5 KB username': { username: 'u'.repeat(5 * 1024) },
    'a username of the maximum length': { username: 'u'.repeat(maxValueBytes(PREFIX)) },
    'everything large': {
      ...extras,
      username: 'u'.repeat(5 * 1024),
      groups: repeated(300, 'g'),
      audiences: repeated(300, 'a'),
    },
    nothing: EMPTY_IDENTITY,
  };
  for (let round = 0; round < 100; round++) {
    const value = (): string => random.text(NASTY_PIECES, random.pick([0, 20, 400, 2000]));
    identities[`random identity ${round}`] = {
      username: value(),
      uid: value(),
      pod: value(),
      podUid: value(),
      node: value(),
      credentialId: value(),
      groups: Array.from({ length: 50 }, value),
      audiences: [value(), value()],
    };
  }
  for (const prefix of [PREFIX, LONGEST_PREFIX]) {
    let identity: Identity = MY_APP;
    const { app: gateway } = createHttpListener({
      ...roomyLimits(),
      authorize: () => ({ kind: 'allow', identity }),
      answer: createResponseRenderer({ ...RENDERER_OPTIONS, identityHeaderPrefix: prefix }),
      trusted: { has: () => false },
      clientIpHeader: undefined,
    });
    t.teardown(() => gateway.close());
    await gateway.listen({ host: '127.0.0.1', port: 0 });
    const base = `http://127.0.0.1:${(gateway.server.address() as AddressInfo).port}`;
    for (const [name, fields] of Object.entries(identities)) {
      identity = { ...MY_APP, ...fields };
      const answer = await sendRaw(base, 'GET /auth HTTP/1.1\r\nHost: x\r\n\r\n', text => text.includes('\r\n\r\n'));
      t.match(answer, /^HTTP\/1\.1 200 OK\r\n(?:[\x20-\x7e]+\r\n){17,18}\r\n$/, name);
      t.ok(answer.length < 4096, `${name}: ${answer.length} bytes`);
      t.strictSame(
        IDENTITY_HEADERS.map(header => answer.split(`\r\n${prefix}${header}: `).length - 1),
        IDENTITY_HEADERS.map(() => 1),
        `${name}: every header exactly once`,
      );
    }
  }
});
