import { Agent } from 'node:http';
import t, { type Test } from 'tap';
import { ask } from '../../fixtures/ask.ts';
import { envoyClient } from '../../fixtures/envoy-client.ts';
import { type GatecarProcess, startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { metric } from '../../fixtures/metrics.ts';
import { askPipelined } from '../../fixtures/pipelined.ts';
import type { ProbeMemory } from '../../fixtures/process-probe.ts';
import { accepts, type Behaviour, reviews, startStandIn } from '../../fixtures/stand-in-api-server.ts';

const MAX_ENTRIES = 300;
const TOKENS = 6_000;
const MIB = 1024 * 1024;

/** What is kept for too long shows by its weight: tokens of 2 KiB, and for those that the policy denies long names too. */
const FILLER = 'x'.repeat(2048);
const LONG_NAME = 'n'.repeat(1024);

const KINDS = ['allowed', 'denied', 'junk'] as const;
type Kind = (typeof KINDS)[number];
const STATUS: Record<Kind, number> = { allowed: 200, denied: 401, junk: 401 };

const byKind: Behaviour = (request, response) => {
  const [kind, number] = request.token?.split('.') ?? [];
  const username = kind === 'denied' ? `${number}-${LONG_NAME}` : `system:serviceaccount:default:sa-${number}`;
  const behaviour = kind === 'junk' ? reviews({ error: 'invalid bearer token' }) : accepts({ user: { username } });
  behaviour(request, response);
};

// Tens of thousands of questions take their time on a busy machine.
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
  const asked = { allowed: 0, denied: 0, junk: 0 };
  const wrong: string[] = [];
  /** Asks about so many tokens, none of them twice. */
  const flood = async (tokens: number, kinds: readonly Kind[] = KINDS): Promise<void> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 32 });
    const end = next + tokens;
    /** Where the machine has other work, new tokens are shed: that is another law, and they are asked about again. */
    const answered = async (token: string, kind: Kind): Promise<number> => {
      for (;;) {
        const { status, headers } = await ask(gatecar.auth, { token, agent });
        if (headers['x-gatecar-reason'] === 'overloaded') continue;
        asked[kind] += 1;
        return status;
      }
    };
    const worker = async () => {
      while (next < end) {
        const number = next;
        next += 1;
        const kind = kinds[number % kinds.length] ?? 'junk';
        const status = await answered(`${kind}.${number}.${FILLER}`, kind);
        if (status !== STATUS[kind]) wrong.push(`${kind} ${status}`);
      }
    };
    await Promise.all(Array.from({ length: 32 }, worker));
    agent.destroy();
  };
  return { standIn, gatecar, flood, asked, wrong };
}

t.test('thousands of tokens leave behind what the stores may hold, and nothing else', async t => {
  const { gatecar, flood, asked, wrong } = await start(t);
  await flood(4 * MAX_ENTRIES);
  const before = await settled(gatecar);
  await flood(TOKENS);
  const after = await settled(gatecar);

  t.same(wrong, []);
  const entries = (store: string) => metric(gatecar.ops, `gatecar_cache_entries{store="${store}"}`);
  t.equal(await entries('authenticated'), MAX_ENTRIES);
  t.equal(await entries('rejected'), MAX_ENTRIES);
  const evicted = (store: string) =>
    metric(gatecar.ops, `gatecar_cache_evictions_total{store="${store}",cause="capacity"}`);
  t.equal(await evicted('authenticated'), asked.allowed + asked.denied - MAX_ENTRIES);
  t.equal(await evicted('rejected'), asked.junk - MAX_ENTRIES);
  for (const gauge of ['gatecar_reviews_in_flight', 'gatecar_reviews_queued']) {
    t.equal(await metric(gatecar.ops, `${gauge}{priority="unverified"}`), 0);
  }

  const grown = (after.heapUsed - before.heapUsed) / MIB;
  // All that was sent is 12 MiB of tokens.
  t.ok(grown < 5, `the heap grew by ${grown.toFixed(1)} MiB`);
  t.same(after.resources, before.resources, 'no timer and no socket is left');
  t.equal(after.processListeners, before.processListeners);
});

t.test('a flood of denials to a log that nobody reads costs a bounded amount of memory, and no answer', async t => {
  const { gatecar, flood, wrong } = await start(t);
  gatecar.stopReading();
  await flood(1000, ['denied']);
  const before = await gatecar.memory();
  await flood(6_000, ['denied']);
  const after = await gatecar.memory();
  t.same(wrong, []);
  const grown = (after.heapUsed - before.heapUsed) / MIB;
  // Each denial is of another user and so a line of its own, of more than 1 KiB, and a kind for the flood gate.
  t.ok(grown < 8, `the heap grew by ${grown.toFixed(1)} MiB`);
});

t.test('100,000 requests after 100,000 leave nothing more, over HTTP and gRPC', async t => {
  const { gatecar } = await startProcess(t, {
    GATECAR_GRPC_LISTEN: '127.0.0.1:0',
    // Refusals beside good tokens would be told in their time, which is another law.
    GATECAR_JWT_PRECHECK: 'off',
    GATECAR_LOG_LEVEL: 'info',
  });
  let next = 0;
  /** Of ten: seven tokens that are known, a new one, one that is junk or nobody's, none or none at all. */
  const authorization = (): string => {
    next += 1;
    switch (next % 10) {
      case 0:
        return `Bearer allowed.${next}`;
      case 1:
        return `Bearer ${next % 20 === 1 ? 'junk' : 'denied'}.${next}`;
      case 2:
        return next % 20 === 2 ? '' : `Basic ${next}`;
      default:
        return `Bearer allowed.known-${next % 50}`;
    }
  };
  const counts: Record<string, number> = {};
  const count = (status: string | number, times = 1): void => {
    counts[status] = (counts[status] ?? 0) + times;
  };
  const overHttp = async (requests: number): Promise<void> => {
    const answered = await askPipelined(gatecar.auth, Array.from({ length: requests }, authorization));
    for (const [status, times] of Object.entries(answered)) count(status, times);
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
  const asked = Object.values(counts).reduce((sum, times) => sum + times);
  t.ok(asked >= 200_000, JSON.stringify(counts));
  t.ok((counts[200] ?? 0) > asked / 2);
  t.ok((counts[401] ?? 0) > asked / 10);
  const grown = (after.heapUsed - before.heapUsed) / MIB;
  // A pointer that each request leaves would be 0.8.
  t.ok(grown < 0.7, `the heap grew by ${grown.toFixed(2)} MiB`);
  t.same(after.resources, before.resources, 'no timer and no socket is left');
});

/** What is left once connections are closed on both sides and the log is written. */
async function settled(gatecar: GatecarProcess): Promise<ProbeMemory> {
  for (let sockets = -1; ; ) {
    const memory = await gatecar.memory();
    const { TCPSocketWrap: now = 0, FSReqCallback: writes = 0 } = memory.resources;
    if (now === sockets && writes === 0) return memory;
    sockets = now;
  }
}
