import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { ask } from '../../fixtures/ask.ts';
import { envoyClient } from '../../fixtures/envoy-client.ts';
import { startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import {
  accepts,
  answers,
  type Behaviour,
  hangs,
  resets,
  reviews,
  startStandIn,
} from '../../fixtures/stand-in-api-server.ts';

// Counted, not timed: what a request leaves behind it leaves each time.

const REQUESTS = 200;
/** What may come and go meanwhile: connections to the API server, and the timers and listeners that each of them has. */
const SPARE = REQUESTS / 2;

t.setTimeout(240_000);

/** What becomes of a token is said by how it begins. */
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
      // After a body its connection is closed.
      (await ask(gatecar.auth, { headers, ...(body === undefined ? { agent } : { body }) })).status,
    gRPC: async headers => {
      const { status, denied_response } = await grpc.checkHeaders(headers);
      return status.code === 0 ? 200 : (denied_response?.status.code ?? 0);
    },
  };
  return { gatecar, protocols };
}

let made = 0;
const fresh = (kind: string): string => `${kind}.${++made}`;
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/** Whose requests are told what: the token of each, by its number; those that are asked at once follow each other. */
const KINDS: readonly {
  readonly name: string;
  readonly status: number;
  readonly atOnce?: number;
  readonly headers: (number: number) => Record<string, string>;
  readonly body?: string;
}[] = [
  { name: 'known', status: 200, headers: () => bearer('good.known') },
  { name: 'new', status: 200, headers: () => bearer(fresh('good')) },
  { name: 'new, and shared by four', status: 200, atOnce: 4, headers: number => bearer(`good.${made}/${number >> 2}`) },
  { name: 'known with a body that is declared', status: 200, headers: () => bearer('good.known'), body: 'x' },
  { name: 'rejected', status: 401, headers: () => bearer(fresh('bad')) },
  { name: 'known as refused', status: 401, headers: () => bearer('bad.known') },
  { name: 'without a credential', status: 401, headers: () => ({}) },
  { name: 'malformed', status: 401, headers: () => ({ authorization: 'Bearer a b' }) },
  { name: 'that nobody can be asked about', status: 503, headers: () => bearer(fresh('error')) },
  { name: 'cut off', status: 503, headers: () => bearer(fresh('cut')) },
  { name: 'never answered', status: 503, atOnce: 100, headers: () => bearer(fresh('silent')) },
];

t.test('requests leave no timer, handle or listener behind', async t => {
  const { gatecar, protocols } = await start(t);
  await gatecar.follow();
  for (const [protocol, one] of Object.entries(protocols)) {
    for (const { name, status, atOnce = 1, headers, body } of KINDS) {
      await t.test(`${protocol}: ${name}`, async t => {
        const round = async (requests: number): Promise<void> => {
          made += 1;
          for (let number = 0; number < requests; number += atOnce) {
            const wave = Array.from({ length: atOnce }, (_, at) => one(headers(number + at), body));
            t.same([...new Set(await Promise.all(wave))], [status]);
          }
        };
        await round(Math.max(4, atOnce));
        const before = await gatecar.left();
        await round(REQUESTS);
        const after = await gatecar.left();
        const grown = Object.entries(after.resources).filter(
          ([kind, count]) => count - (before.resources[kind] ?? 0) >= SPARE,
        );
        t.same(grown, [], 'nothing that the event loop knows');
        t.ok(after.listeners - before.listeners < SPARE, `${before.listeners} listeners → ${after.listeners}`);
        t.same(after.warnings, []);
      });
    }
  }
});
