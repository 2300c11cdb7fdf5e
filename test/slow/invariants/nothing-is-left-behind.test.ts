import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { envoyClient } from '../../fixtures/envoy-client.ts';
import { startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import {
  accepts,
  answers,
  type Behaviour,
  hangs,
  resets,
  reviews,
  startStandIn,
} from '../../fixtures/stand-in-api-server.ts';

// Counts objects instead of measuring memory: what one request leaves behind, every request leaves
// behind.

const REQUESTS = 200;
/** Allowed fluctuation: connections to the API server, with the timers and listeners of each. */
const SPARE = REQUESTS / 2;

t.setTimeout(240_000);

/** The prefix of a token selects the behaviour of the API server. */
const BEHAVIOURS: Readonly<Record<string, Behaviour>> = {
  good: accepts(),
  bad: reviews({ error: 'invalid bearer token' }),
  error: answers(500, 'boom'),
  cut: resets,
  silent: hangs,
};

async function start(t: Test) {
  const standIn = await startStandIn((request, response) => {
    standIn.requests.length = 0;
    BEHAVIOURS[request.token?.split('.')[0] ?? '']?.(request, response);
  });
  t.teardown(() => standIn.close());
  const gatecar = await startGatecarProcess({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_GRPC_LISTEN: '127.0.0.1:0',
    GATECAR_LOG_LEVEL: 'info',
    GATECAR_CACHE_TTL: '10m',
    GATECAR_CACHE_NEGATIVE_TTL: '10m',
    GATECAR_REVIEW_TIMEOUT: '1s',
  });
  t.teardown(() => gatecar.stop());
  const agent = new Agent({ keepAlive: true, maxSockets: 100 });
  t.teardown(() => agent.destroy());
  const grpc = envoyClient(gatecar.grpc);
  t.teardown(() => grpc.close());
  const protocols: Readonly<Record<string, (headers: Record<string, string>, body?: string) => Promise<number>>> = {
    HTTP: async (headers, body) =>
      // The connection is closed after a body.
      (await sendRequest(gatecar.auth, { headers, ...(body === undefined ? { agent } : { body }) })).status,
    gRPC: async headers => {
      const { status, denied_response } = await grpc.checkHeaders(headers);
      return status.code === 0 ? 200 : (denied_response?.status.code ?? 0);
    },
  };
  return { gatecar, protocols };
}

let tokenCount = 0;
const newToken = (kind: string): string => `${kind}.${++tokenCount}`;
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/**
 * Kinds of requests: `headers` returns the credential of each by its number. Requests sent at once
 * have consecutive numbers.
 */
const KINDS: readonly {
  readonly name: string;
  readonly status: number;
  readonly atOnce?: number;
  readonly headers: (number: number) => Record<string, string>;
  readonly body?: string;
}[] = [
  { name: 'cached', status: 200, headers: () => bearer('good.cached') },
  { name: 'new', status: 200, headers: () => bearer(newToken('good')) },
  {
    name: 'new, shared by four requests',
    status: 200,
    atOnce: 4,
    headers: number => bearer(`good.${tokenCount}/${number >> 2}`),
  },
  { name: 'cached, with a declared body', status: 200, headers: () => bearer('good.cached'), body: 'x' },
  { name: 'rejected', status: 401, headers: () => bearer(newToken('bad')) },
  { name: 'cached rejection', status: 401, headers: () => bearer('bad.cached') },
  { name: 'without a credential', status: 401, headers: () => ({}) },
  { name: 'malformed', status: 401, headers: () => ({ authorization: 'Bearer a b' }) },
  { name: 'answered 500 by the API server', status: 503, headers: () => bearer(newToken('error')) },
  { name: 'connection reset by the API server', status: 503, headers: () => bearer(newToken('cut')) },
  { name: 'not answered by the API server', status: 503, atOnce: 100, headers: () => bearer(newToken('silent')) },
];

t.test('requests leave no timer, handle or listener behind', async t => {
  const { gatecar, protocols } = await start(t);
  await gatecar.follow();
  for (const [protocol, send] of Object.entries(protocols)) {
    for (const { name, status, atOnce = 1, headers, body } of KINDS) {
      await t.test(`${protocol}: requests (${name}) leave nothing behind`, async t => {
        const round = async (requests: number): Promise<void> => {
          tokenCount += 1;
          for (let number = 0; number < requests; number += atOnce) {
            const wave = Array.from({ length: atOnce }, (_, index) => send(headers(number + index), body));
            t.same([...new Set(await Promise.all(wave))], [status]);
          }
        };
        await round(Math.max(4, atOnce));
        const before = await gatecar.left();
        await round(REQUESTS);
        const after = await gatecar.left();
        const growing = Object.entries(after.resources).filter(
          ([kind, count]) => count - (before.resources[kind] ?? 0) >= SPARE,
        );
        t.same(growing, [], 'no kind of event-loop resource grows');
        t.ok(after.listeners - before.listeners < SPARE, `${before.listeners} listeners → ${after.listeners}`);
        t.same(after.warnings, []);
      });
    }
  }
});
