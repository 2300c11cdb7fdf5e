import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { envoyClient } from '../../fixtures/envoy-client.ts';
import { type GatecarProcess, startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { metric } from '../../fixtures/metrics.ts';
import type { ProbeMemory } from '../../fixtures/process-probe.ts';
import { sendPipelined } from '../../fixtures/send-pipelined.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { accepts, type Behaviour, reviews, startStandIn } from '../../fixtures/stand-in-api-server.ts';

const MAX_ENTRIES = 300;
const TOKENS = 6_000;
const MIB = 1024 * 1024;

/**
 * Makes retained data measurable: tokens of 2 KiB, and long usernames for tokens that the policy
 * denies.
 */
const FILLER = 'x'.repeat(2048);
const LONG_NAME = 'n'.repeat(1024);

const KINDS = ['allowed', 'denied', 'invalid'] as const;
type Kind = (typeof KINDS)[number];
const STATUS: Record<Kind, number> = { allowed: 200, denied: 401, invalid: 401 };

const byKind: Behaviour = (request, response) => {
  const [kind, number] = request.token?.split('.') ?? [];
  const username = kind === 'denied' ? `${number}-${LONG_NAME}` : `system:serviceaccount:default:sa-${number}`;
  const behaviour = kind === 'invalid' ? reviews({ error: 'invalid bearer token' }) : accepts({ user: { username } });
  behaviour(request, response);
};

// Tens of thousands of requests take long on a busy machine.
t.setTimeout(240_000);

/** Starts gatecar with a small cache, in front of an API server that forgets its requests. */
async function startProcess(t: Test, settings: Readonly<Record<string, string>>) {
  const standIn = await startStandIn((request, response) => {
    byKind(request, response);
    standIn.requests.length = 0;
  });
  t.teardown(() => standIn.close());
  const gatecar = await startGatecarProcess({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_CACHE_MAX_ENTRIES: String(MAX_ENTRIES),
    GATECAR_CACHE_TTL: '10m',
    GATECAR_CACHE_NEGATIVE_TTL: '10m',
    GATECAR_REVIEW_TIMEOUT: '30s',
    GATECAR_LOG_LEVEL: 'info',
    ...settings,
  });
  t.teardown(() => gatecar.stop());
  return { standIn, gatecar };
}

async function start(t: Test) {
  const { standIn, gatecar } = await startProcess(t, { GATECAR_ALLOWED_NAMESPACES: 'default' });
  let next = 0;
  const sent = { allowed: 0, denied: 0, invalid: 0 };
  const unexpected: string[] = [];
  /** Sends this many tokens, each of them once. */
  const flood = async (tokens: number, kinds: readonly Kind[] = KINDS): Promise<void> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 32 });
    const end = next + tokens;
    /**
     * On a busy machine new tokens are shed. Shedding is tested elsewhere, so such requests are
     * repeated.
     */
    const statusOf = async (token: string, kind: Kind): Promise<number> => {
      for (;;) {
        const { status, headers } = await sendRequest(gatecar.auth, { token, agent });
        if (headers['x-gatecar-reason'] === 'overloaded') continue;
        sent[kind] += 1;
        return status;
      }
    };
    const worker = async () => {
      while (next < end) {
        const number = next;
        next += 1;
        const kind = kinds[number % kinds.length] ?? 'invalid';
        const status = await statusOf(`${kind}.${number}.${FILLER}`, kind);
        if (status !== STATUS[kind]) unexpected.push(`${kind} ${status}`);
      }
    };
    await Promise.all(Array.from({ length: 32 }, worker));
    agent.destroy();
  };
  return { standIn, gatecar, flood, sent, unexpected };
}

t.test('after thousands of tokens the heap holds what the stores may hold, and nothing else', async t => {
  const { gatecar, flood, sent, unexpected } = await start(t);
  await flood(4 * MAX_ENTRIES);
  const before = await settled(gatecar);
  await flood(TOKENS);
  const after = await settled(gatecar);

  t.same(unexpected, []);
  const entries = (store: string) => metric(gatecar.ops, `gatecar_cache_entries{store="${store}"}`);
  t.equal(await entries('authenticated'), MAX_ENTRIES);
  t.equal(await entries('rejected'), MAX_ENTRIES);
  const evicted = (store: string) =>
    metric(gatecar.ops, `gatecar_cache_evictions_total{store="${store}",cause="capacity"}`);
  t.equal(await evicted('authenticated'), sent.allowed + sent.denied - MAX_ENTRIES);
  t.equal(await evicted('rejected'), sent.invalid - MAX_ENTRIES);
  for (const gauge of ['gatecar_reviews_in_flight', 'gatecar_reviews_queued']) {
    t.equal(await metric(gatecar.ops, `${gauge}{priority="unverified"}`), 0);
  }

  const grownMib = (after.heapUsed - before.heapUsed) / MIB;
  // The tokens sent amount to 12 MiB.
  t.ok(grownMib < 5, `the heap grew by ${grownMib.toFixed(1)} MiB`);
  t.same(after.resources, before.resources, 'no timer or socket remains');
  t.equal(after.processListeners, before.processListeners);
});

t.test('a flood of denials to a log that is not read costs bounded memory and no response', async t => {
  const { gatecar, flood, unexpected } = await start(t);
  gatecar.stopReading();
  await flood(1000, ['denied']);
  const before = await gatecar.memory();
  await flood(6_000, ['denied']);
  const after = await gatecar.memory();
  t.same(unexpected, []);
  const grownMib = (after.heapUsed - before.heapUsed) / MIB;
  // Each denial has another user: a separate line of more than 1 KiB and a separate key of the log
  // rate limiter.
  t.ok(grownMib < 8, `the heap grew by ${grownMib.toFixed(1)} MiB`);
});

t.test('100,000 requests after 100,000 retain no more memory, over HTTP and gRPC', async t => {
  const { gatecar } = await startProcess(t, {
    GATECAR_GRPC_LISTEN: '127.0.0.1:0',
    // Otherwise rejections would be throttled next to valid tokens, which is tested elsewhere.
    GATECAR_JWT_PRECHECK: 'off',
  });
  let next = 0;
  /**
   * Of ten requests, seven have a cached token and one a new token. One has a rejected or denied
   * token, and one has an unusable credential or none.
   */
  const authorization = (): string => {
    next += 1;
    switch (next % 10) {
      case 0:
        return `Bearer allowed.${next}`;
      case 1:
        return `Bearer ${next % 20 === 1 ? 'invalid' : 'denied'}.${next}`;
      case 2:
        return next % 20 === 2 ? '' : `Basic ${next}`;
      default:
        return `Bearer allowed.cached-${next % 50}`;
    }
  };
  const counts: Record<string, number> = {};
  const count = (status: string | number, times = 1): void => {
    counts[status] = (counts[status] ?? 0) + times;
  };
  const overHttp = async (requests: number): Promise<void> => {
    const statusCounts = await sendPipelined(gatecar.auth, Array.from({ length: requests }, authorization));
    for (const [status, times] of Object.entries(statusCounts)) count(status, times);
  };
  const overGrpc = async (requests: number): Promise<void> => {
    const client = envoyClient(gatecar.grpc);
    const worker = async () => {
      for (let request = 0; request < requests / 32; request += 1) {
        const value = authorization();
        const { status, denied_response } = await client.checkHeaders(value === '' ? {} : { authorization: value });
        count(status.code === 0 ? 200 : (denied_response?.status.code ?? 0));
      }
    };
    await Promise.all(Array.from({ length: 32 }, worker));
    client.close();
  };
  const half = async (): Promise<ProbeMemory> => {
    await Promise.all([overHttp(45_000), overHttp(45_000), overGrpc(10_000)]);
    return await settled(gatecar);
  };
  const before = await half();
  const after = await half();
  const sent = Object.values(counts).reduce((sum, times) => sum + times);
  t.ok(sent >= 200_000, JSON.stringify(counts));
  t.ok((counts[200] ?? 0) > sent / 2);
  t.ok((counts[401] ?? 0) > sent / 10);
  const grownMib = (after.heapUsed - before.heapUsed) / MIB;
  // One retained pointer per request would be 0.8 MiB.
  t.ok(grownMib < 0.7, `the heap grew by ${grownMib.toFixed(2)} MiB`);
  t.same(after.resources, before.resources, 'no timer or socket remains');
});

/** Returns the memory in use after connections are closed on both sides and the log is written. */
async function settled(gatecar: GatecarProcess): Promise<ProbeMemory> {
  for (let sockets = -1; ; ) {
    const memory = await gatecar.memory();
    const { TCPSocketWrap: now = 0, FSReqCallback: writes = 0 } = memory.resources;
    if (now === sockets && writes === 0) return memory;
    sockets = now;
  }
}
