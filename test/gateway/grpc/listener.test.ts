import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, constants } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import type { Authorize } from '../../../src/authorize.ts';
import type { Allow, Decision } from '../../../src/decision/decision.ts';
import { createResponseRenderer } from '../../../src/gateway/auth-response.ts';
import type { DecisionEvent } from '../../../src/gateway/decision-event.ts';
import { type Forwarded, trustedProxies } from '../../../src/gateway/forwarded-headers.ts';
import type { GrpcCall } from '../../../src/gateway/grpc/grpc-call.ts';
import {
  AUTHORIZATION_SERVICE,
  createGrpcListener,
  type GrpcListener,
  type GrpcListenerOptions,
} from '../../../src/gateway/grpc/listener.ts';
import { toIdentity } from '../../../src/identity/identity.ts';
import { Budget } from '../../../src/limits/budget.ts';
import { type EnvoyClient, envoyClient, headersOf } from '../../fixtures/envoy-client.ts';
import { roomyLimits } from '../../fixtures/limits.ts';
import { answerTo, beginCall, framed, rawCall, rawSession } from '../../fixtures/raw-call.ts';
import { RENDERER_OPTIONS } from '../../fixtures/renderer-options.ts';
import { until } from '../../fixtures/until.ts';

const identity = toIdentity(
  { username: 'system:serviceaccount:default:my-app', uid: 'u', groups: ['a', 'b'], extra: {} },
  ['bindcar'],
);
const allow: Decision = { kind: 'allow', identity };

/** A hand-encoded check with a credential in `attributes.request.http.headers`. */
const CHECK = field(
  1,
  field(
    4,
    field(
      2,
      field(
        3,
        Buffer.concat(
          [...['authorization', 'Bearer abc'].entries()].map(([index, text]) => field(index + 1, Buffer.from(text))),
        ),
      ),
    ),
  ),
);

interface StartedListener {
  readonly client: EnvoyClient;
  readonly gateway: GrpcListener;
  readonly address: string;
  readonly decided: DecisionEvent[];
  /** Each decision's `forwarded()`, read when the decision is reported. */
  readonly forwarded: Forwarded[];
  readonly faults: unknown[];
}

const optionsFor = (authorize: Authorize): GrpcListenerOptions => ({
  ...roomyLimits(),
  authorize,
  answer: createResponseRenderer({ ...RENDERER_OPTIONS, policyDeniedStatus: 403 }),
  trusted: trustedProxies([]),
  clientIpHeader: undefined,
  onFault: () => {},
});

async function startListener(
  t: Test,
  authorize: Authorize,
  {
    peers = [] as string[],
    clientIpHeader = undefined as string | undefined,
    limitsClients = false,
    path = '',
    host = '127.0.0.1',
    pingEveryMs = undefined as number | undefined,
    maxKeptBytes = undefined as number | undefined,
    onDecision = () => {},
    follow: startTrace = undefined as GrpcListenerOptions['startTrace'],
  } = {},
): Promise<StartedListener> {
  const decided: DecisionEvent[] = [];
  const forwarded: Forwarded[] = [];
  const faults: unknown[] = [];
  const gateway = createGrpcListener({
    ...roomyLimits(),
    ...optionsFor(authorize),
    trusted: trustedProxies(peers),
    clientIpHeader,
    limitsClients,
    startTrace,
    onDecision(event) {
      decided.push(event);
      forwarded.push(event.forwarded());
      onDecision();
    },
    onFault: error => faults.push(error),
    ...(pingEveryMs !== undefined && { pingEveryMs }),
    ...(maxKeptBytes !== undefined && { maxKeptBytes }),
  });
  const address = await gateway.listen(path === '' ? { host, port: 0 } : { path });
  const client = envoyClient(address);
  t.teardown(() => {
    client.close();
    gateway.destroy();
  });
  return { client, gateway, address, decided, forwarded, faults };
}

const denyMissing: Authorize = credential =>
  credential.kind === 'token' ? allow : { kind: 'deny', reason: 'credentials_missing', detail: '' };

t.test('a gRPC allow overwrites the identity headers and removes the empty ones', async t => {
  const { client, decided } = await startListener(t, () => allow);
  const response = await client.checkHeaders({ authorization: 'Bearer abc' });
  t.equal(response.status.code, 0);
  t.equal(response.http_response, 'ok_response');
  const headers = response.ok_response?.headers ?? [];
  t.match(headersOf(headers), { 'x-auth-request-user': identity.username, 'x-auth-request-groups': 'a,b' });
  t.ok(
    headers.every(({ append, append_action }) => append === null && append_action === 0),
    'append and append_action are unset, so Envoy overwrites',
  );
  t.strictSame(
    response.ok_response?.headers_to_remove,
    headers.filter(({ header }) => header.value === '').map(({ header }) => header.key),
  );
  t.match(decided, [{ protocol: 'grpc', decision: { kind: 'allow' }, credential: { kind: 'token' } }]);
});

t.test('each gRPC allow carries the headers of its identity, and only a stale one X-Gatecar-Stale', async t => {
  const bob = { ...identity, username: 'bob' };
  const allows: Allow[] = [
    { kind: 'allow', identity },
    { kind: 'allow', identity, staleSeconds: 7 },
    { kind: 'allow', identity },
    { kind: 'allow', identity: bob },
    { kind: 'allow', identity: undefined },
  ];
  const decisions = allows.values();
  const { client } = await startListener(t, () => decisions.next().value as Allow);
  const headers = [];
  for (const _ of allows) {
    const { ok_response } = await client.checkHeaders({ authorization: 'Bearer abc' });
    headers.push(headersOf(ok_response?.headers ?? []));
  }
  t.strictSame(
    headers.map(values => values['x-auth-request-user']),
    [identity.username, identity.username, identity.username, 'bob', ''],
  );
  t.strictSame(
    headers.map(values => values['x-gatecar-stale']),
    [undefined, '7', undefined, undefined, undefined],
  );
});

t.test('a gRPC denial is a denied_response with the same status, headers and body as over HTTP', async t => {
  const decisions: [Decision, status: number, code: number][] = [
    [{ kind: 'deny', reason: 'token_rejected', detail: 'expired' }, 401, 16],
    [{ kind: 'deny', reason: 'namespace_denied', detail: 'x' }, 403, 7],
    [{ kind: 'unavailable', reason: 'overloaded', cause: 'too_many_reviews', retryAfterSeconds: 3 }, 503, 14],
  ];
  for (const [decision, status, code] of decisions) {
    const { client } = await startListener(t, async () => decision);
    const { status: rpc, denied_response: denied } = await client.checkHeaders({ authorization: 'Bearer abc' });
    t.equal(rpc.code, code);
    t.equal(denied?.status.code, status);
    t.equal(JSON.parse(denied?.body ?? '').error, rpc.message);
    t.match(headersOf(denied?.headers ?? []), { 'x-gatecar-reason': decision.kind === 'allow' ? '' : decision.reason });
  }
});

t.test('a check with missing parts is denied as one without a credential, and is never an RPC error', async t => {
  const { client } = await startListener(t, denyMissing);
  for (const request of [
    {},
    { attributes: {} },
    { attributes: { request: {} } },
    { attributes: { request: { http: {} } } },
  ]) {
    t.match(await client.check(request), { status: { code: 16 }, http_response: 'denied_response' });
  }
});

t.test('a merged, repeated or non-UTF-8 authorization header of a check is malformed', async t => {
  const kinds: string[] = [];
  const { client, address } = await startListener(t, credential => {
    kinds.push(credential.kind);
    return denyMissing(credential);
  });
  await client.checkHeaders({ authorization: 'Bearer a,Bearer b' });
  await client.checkHeaders({ authorization: 'Bearer !' });
  const raw = rawClient(t, address);
  const pair = (value: Buffer) => field(1, Buffer.concat([field(1, Buffer.from('authorization')), field(3, value)]));
  const request = (headers: Buffer) => field(1, field(4, field(2, field(13, headers))));
  await raw(request(pair(Buffer.from('Bearer abc'))));
  await raw(request(Buffer.concat([pair(Buffer.from('Bearer abc')), pair(Buffer.from('Bearer abc'))])));
  await raw(request(pair(Buffer.from('Bearer a\xff', 'latin1'))));
  t.strictSame(kinds, ['malformed', 'malformed', 'token', 'malformed', 'malformed']);
});

t.test('an internal error becomes a denial with status UNAVAILABLE and is reported once', async t => {
  for (const authorize of [
    () => {
      throw new Error('no');
    },
    () => Promise.reject(new Error('no')),
  ]) {
    const { client, faults } = await startListener(t, authorize);
    const response = await client.checkHeaders({ authorization: 'Bearer abc' });
    t.match(response, { status: { code: 14 }, denied_response: { status: { code: 503 } } });
    t.match(faults, [{ message: 'no' }]);
  }
});

t.test('an error in onDecision is reported and does not change the gRPC response', async t => {
  const { client, faults } = await startListener(t, () => allow, {
    onDecision() {
      throw new Error('no counter');
    },
  });
  t.equal((await client.checkHeaders({ authorization: 'Bearer abc' })).status.code, 0);
  t.match(faults, [{ message: 'no counter' }]);
});

t.test('a call is answered as unavailable before its deadline passes', async t => {
  const never = new Promise<Decision>(() => {});
  const { client, decided } = await startListener(t, () => never);
  for (const ms of [2000, 1]) {
    const answer = client.checkHeaders({ authorization: 'Bearer abc' }, new Date(Date.now() + ms));
    if (ms === 2000) t.match(await answer, { status: { code: 14 }, http_response: 'denied_response' });
    else await answer.catch(() => {});
  }
  t.match(decided[0], { decision: { reason: 'authority_unavailable', cause: 'timeout' } });
});

t.test('a decision that arrives after the deadline is not reported a second time', async t => {
  const late = Promise.withResolvers<Decision>();
  const { client, decided } = await startListener(t, credential =>
    credential.kind === 'token' ? late.promise : Promise.resolve(allow),
  );
  t.equal((await client.checkHeaders({}, new Date(Date.now() + 60_000))).status.code, 0);
  t.equal((await client.checkHeaders({ authorization: 'Bearer a' }, new Date(Date.now() + 1000))).status.code, 14);
  late.resolve(allow);
  await late.promise;
  t.equal(decided.length, 2);
});

t.test('grpc-timeout is read in every unit, and an invalid value sets no deadline', async t => {
  const late = Promise.withResolvers<Decision>();
  const calls: unknown[] = [];
  const { address, decided } = await startListener(t, credential => {
    calls.push(credential);
    return late.promise;
  });
  const session = rawSession(t, address);
  for (const timeout of ['1S', '100m', '90000u', '99999999n', '0m']) {
    t.equal((await rawCall(session, { 'grpc-timeout': timeout }, framed(CHECK))).status, '0', timeout);
    t.match(decided.pop(), { decision: { cause: 'timeout' } }, timeout);
  }
  calls.length = 0;
  const limits = ['1H', '1M', '99999999H', '1', 'S', '1s', ' 1m', '-1m', '1.5m', '100000000n', '1m,1m', ''];
  const answers = limits.map(timeout => rawCall(session, { 'grpc-timeout': timeout }, framed(CHECK)));
  await until(() => calls.length === limits.length);
  late.resolve(allow);
  for (const { status } of await Promise.all(answers)) t.equal(status, '0');
  t.ok(decided.length === limits.length && decided.every(({ decision }) => decision.kind === 'allow'));
});

t.test('request attributes of a check are used only from a trusted proxy', async t => {
  const request = {
    attributes: {
      source: { address: { socket_address: { address: '203.0.113.9' } } },
      request: { http: { id: '7', method: 'PUT', path: '/zones?x=1', headers: { 'x-real-ip': '198.51.100.1' } } },
    },
  };
  const trusted = await startListener(t, denyMissing, { peers: ['127.0.0.1'] });
  await trusted.client.check(request);
  t.strictSame(trusted.forwarded[0], {
    clientAddress: '203.0.113.9',
    requestId: '7',
    method: 'PUT',
    uri: '/zones',
    trace: undefined,
  });
  const header = await startListener(t, denyMissing, { peers: ['127.0.0.1'], clientIpHeader: 'x-real-ip' });
  await header.client.check(request);
  t.match(header.forwarded[0], { clientAddress: '198.51.100.1' });
  const untrusted = await startListener(t, denyMissing);
  await untrusted.client.check(request);
  t.match(untrusted.forwarded[0], { clientAddress: '127.0.0.1', requestId: undefined, uri: undefined });
});

t.test(
  'the trace is read from the call’s metadata, else from the request’s headers, only from a trusted proxy',
  async t => {
    const [call, header] = ['b7ad6b7169203331', '00f067aa0ba902b7'].map(
      span => `00-4bf92f3577b34da6a3ce929d0e0e4736-${span}-01`,
    ) as [string, string];
    const request = {
      attributes: { request: { http: { headers: { traceparent: header, tracestate: 'of=header' } } } },
    };
    const spans = async (peers: string[]) => {
      const { client, forwarded } = await startListener(t, denyMissing, { peers });
      await client.check(request, undefined, { traceparent: call, tracestate: ['a=b', 'c=d'] });
      await client.check(request, undefined, { traceparent: call });
      await client.check(request, undefined, { traceparent: [call, call] });
      await client.check(request);
      await client.check({});
      return forwarded.map(({ trace }) => trace && [trace.spanId, trace.state]);
    };
    const ofHeader = ['00f067aa0ba902b7', 'of=header'];
    t.strictSame(await spans(['127.0.0.1']), [
      ['b7ad6b7169203331', 'a=b, c=d'],
      ['b7ad6b7169203331', undefined],
      undefined,
      ofHeader,
      undefined,
    ]);
    t.strictSame(await spans([]), [undefined, undefined, undefined, undefined, undefined]);
  },
);

t.test('the source address of a check is ignored if it is not an IP address', async t => {
  const { client, forwarded } = await startListener(t, denyMissing, { peers: ['127.0.0.1'] });
  for (const address of ['2001:db8::9', 'x\r\n\x9b2J', 'fe80::1%\x9b2J', '']) {
    await client.check({ attributes: { source: { address: { socket_address: { address } } } } });
  }
  t.strictSame(
    forwarded.map(({ clientAddress }) => clientAddress),
    ['2001:db8::9', '127.0.0.1', '127.0.0.1', '127.0.0.1'],
  );
});

t.test('the trace of a gRPC call is passed to authorize and to onDecision', async t => {
  const trace = { source: 'local' as const };
  const contexts: unknown[] = [];
  const authorize: Authorize = (_credential, context) => {
    contexts.push(context);
    return allow;
  };
  const parents: unknown[] = [];
  const { client, decided } = await startListener(t, authorize, {
    peers: ['127.0.0.1'],
    follow(parent) {
      parents.push(parent());
      return trace;
    },
  });
  const span = '00f067aa0ba902b7';
  await client.checkHeaders({ traceparent: `00-4bf92f3577b34da6a3ce929d0e0e4736-${span}-01` });
  t.match(parents, [{ spanId: span }]);
  t.match(contexts, [{ client: undefined, trace }]);
  t.ok(
    (contexts[0] as { heldBytes: number }).heldBytes > span.length,
    'the context has the bytes held while the call waits',
  );
  t.equal(decided[0]?.trace, trace);
});

t.test('the failure limit of gRPC uses the source address of the check, not a header', async t => {
  const clients: (string | undefined)[] = [];
  const authorize: Authorize = (_credential, context) => {
    clients.push(context?.client);
    return allow;
  };
  const from = (address: string | undefined) => ({
    attributes: {
      ...(address !== undefined && { source: { address: { socket_address: { address } } } }),
      request: { http: { headers: { 'x-real-ip': '198.51.100.1' } } },
    },
  });
  const peers = ['127.0.0.1', '203.0.113.128/25'];
  const limiting = await startListener(t, authorize, { peers, limitsClients: true, clientIpHeader: 'x-real-ip' });
  for (const address of ['203.0.113.9', '2001:db8::9', '203.0.113.200', 'invalid', undefined]) {
    await limiting.client.check(from(address));
  }
  t.strictSame(clients.splice(0), ['203.0.113.9', '2001:db8::9', undefined, undefined, undefined]);
  const untrusted = await startListener(t, authorize, { peers: ['::1'], limitsClients: true });
  await untrusted.client.check(from('203.0.113.9'));
  const unlimited = await startListener(t, authorize, { peers });
  await unlimited.client.check(from('203.0.113.9'));
  t.strictSame(clients, [undefined, undefined]);
});

t.test('the gRPC listener listens on a Unix socket, and `unix` trusts its peers', async t => {
  // The path of a Unix socket has at most 107 bytes; a folder of tap's fixtures may exceed that.
  const folder = await mkdtemp(join(tmpdir(), 'gatecar-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const path = join(folder, 'grpc.sock');
  const { client, address, forwarded } = await startListener(t, denyMissing, { peers: ['unix'], path });
  t.equal(address, `unix:${path}`);
  await client.checkHeaders({});
  t.match(forwarded, [{ requestId: '7', uri: '/x' }]);
});

t.test('an IPv6 listener returns its address in brackets, and listening on a port in use rejects', async t => {
  const { client, address: v6 } = await startListener(t, () => allow, { host: '::1' });
  t.match(v6, /^\[::1\]:\d+$/);
  t.equal((await client.checkHeaders({})).status.code, 0);
  const second = createGrpcListener(optionsFor(() => allow));
  t.teardown(() => second.destroy());
  await t.rejects(second.listen({ host: '::1', port: Number(v6.split(':').at(-1)) }), { code: 'EADDRINUSE' });
});

t.test('an unknown gRPC method, HTTP method or content type is rejected by the gRPC specification', async t => {
  const { address, faults, decided } = await startListener(t, () => allow);
  const session = rawSession(t, address);
  const message = framed(CHECK);
  for (const [headers, http, grpc] of [
    [{ ':method': 'GET' }, 405],
    [{ ':method': 'HEAD' }, 405],
    [{ 'content-type': 'application/json' }, 415],
    [{ 'content-type': 'application/grpc-web' }, 415],
    [{ 'content-type': 'application/grpc+json' }, 415],
    [{ 'content-type': undefined }, 415],
    [{ ':path': '/' }, 200, '12'],
    [{ ':path': `/${AUTHORIZATION_SERVICE}/check` }, 200, '12'],
    [{ ':path': `/${AUTHORIZATION_SERVICE}/Check?x` }, 200, '12'],
    [{ ':path': '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo' }, 200, '12'],
  ] as const) {
    const answer = await rawCall(session, headers, message);
    t.match(answer, { headers: { ':status': http }, status: grpc ?? 'undefined', code: 0 }, JSON.stringify(headers));
  }
  t.strictSame(decided, []);
  for (const type of ['application/grpc+proto', 'application/grpc; charset=utf-8', 'Application/gRPC']) {
    t.match(await rawCall(session, { 'content-type': type }, message), { status: '0' }, type);
  }
  t.match(await rawCall(session, {}, framed(Buffer.from('no message'))), { status: '0', code: 0 });
  t.match(decided.at(-1), { decision: { kind: 'deny', reason: 'credentials_malformed' } });
  t.strictSame(faults, []);
});

t.test('if even the denial for an internal error cannot be rendered, the call fails', async t => {
  const faults: unknown[] = [];
  const gateway = createGrpcListener({
    ...roomyLimits(),
    ...optionsFor(() => allow),
    answer() {
      throw new Error('no answer');
    },
    onFault: error => faults.push(error),
  });
  t.teardown(() => gateway.destroy());
  const session = rawSession(t, await gateway.listen({ host: '127.0.0.1', port: 0 }));
  t.match(await rawCall(session, {}, framed(CHECK)), { status: '13' });
  t.match(faults, [{ message: 'no answer' }, { message: 'no answer' }]);
});

t.test('40 calls on one connection that wait for the same review are all answered', async t => {
  const decision = Promise.withResolvers<Decision>();
  let authorized = 0;
  const { address, decided } = await startListener(t, () => {
    authorized += 1;
    return decision.promise;
  });
  const session = rawSession(t, address);
  const calls = Array.from({ length: 40 }, () => rawCall(session, {}, framed(CHECK)));
  await until(() => authorized === 40);
  decision.resolve(allow);
  for (const answer of await Promise.all(calls)) t.match(answer, { status: '0', code: 0 });
  t.equal(decided.length, 40);
});

t.test('a call whose session closes before its turn is not authorized', async t => {
  let authorized = 0;
  const authorize: Authorize = (_credential, context) => {
    authorized += 1;
    // More calls than one turn handles, so the remaining ones are already ready.
    if (authorized === 12) (context as unknown as { call: GrpcCall }).call.stream.session?.destroy();
    return { kind: 'deny', reason: 'token_rejected', detail: '' };
  };
  const gateway = createGrpcListener({ ...optionsFor(authorize), trusted: trustedProxies(['127.0.0.1']) });
  t.teardown(() => gateway.destroy());
  const session = rawSession(t, await gateway.listen({ host: '127.0.0.1', port: 0 }));
  await once(session, 'remoteSettings');
  for (let calls = 0; calls < 20; calls += 1) {
    beginCall(session)
      .on('error', () => {})
      .end(framed(CHECK));
  }
  await once(session, 'close');
  await new Promise(resolve => setImmediate(resolve));
  t.equal(authorized, 12);
});

t.test('a health check whose answer is not read in time is reset', async t => {
  const requests = new Budget(1024 ** 2);
  const gateway = createGrpcListener({ ...optionsFor(() => allow), requests, clientTimeoutMs: 50 });
  t.teardown(() => gateway.destroy());
  const address = await gateway.listen({ host: '127.0.0.1', port: 0 });
  const session = connect(`http://${address}`, { settings: { initialWindowSize: 0 } }).on('error', () => {});
  t.teardown(() => session.destroy());
  const stream = beginCall(session, { ':path': '/grpc.health.v1.Health/Check' });
  const closed = once(stream, 'close');
  stream.end(framed(Buffer.alloc(0)));
  await closed;
  t.equal(stream.rstCode, constants.NGHTTP2_CANCEL);
  await until(() => requests.usedBytes === 0);
});

t.test(
  'unfinished calls that time out together are answered by at most eight in each event loop iteration',
  async t => {
    let iteration = 0;
    const answered: number[] = [];
    const gateway = createGrpcListener({
      ...optionsFor(() => allow),
      clientTimeoutMs: 50,
      onDecision: () => answered.push(iteration),
    });
    t.teardown(() => gateway.destroy());
    const address = await gateway.listen({ host: '127.0.0.1', port: 0 });
    const session = rawSession(t, address);
    const count = (): void => {
      iteration += 1;
      counter = setImmediate(count);
    };
    let counter = setImmediate(count);
    t.teardown(() => clearImmediate(counter));
    const statuses = await Promise.all(
      Array.from({ length: 40 }, async () => (await answerTo(beginCall(session))).status),
    );
    t.strictSame(statuses, Array(40).fill('0'));
    t.equal(answered.length, 40);
    const perIteration = Object.values(Object.groupBy(answered, number => number)).map(calls => calls?.length);
    t.ok(perIteration.every(calls => (calls ?? 0) <= 8));
  },
);

t.test('a health check with a compressed message fails with INTERNAL', async t => {
  const { address } = await startListener(t, () => allow);
  const headers = { ':path': '/grpc.health.v1.Health/Check' };
  const answer = await rawCall(rawSession(t, address), headers, framed(Buffer.alloc(0), 1));
  t.match(answer, { status: '13', code: 0 });
});

t.test('a call fails if its response cannot be rendered after a review, and closing does not wait for it', async t => {
  const faults: unknown[] = [];
  const gateway = createGrpcListener({
    ...optionsFor(async () => allow),
    answer() {
      throw new Error('no answer');
    },
    onFault: error => faults.push(error),
  });
  t.teardown(() => gateway.destroy());
  const session = rawSession(t, await gateway.listen({ host: '127.0.0.1', port: 0 }));
  t.match(await rawCall(session, {}, framed(CHECK)), { status: '13' });
  t.match(faults, [{ message: 'no answer' }, { message: 'no answer' }]);
  await gateway.close();
});

t.test('an error in onDecision does not change the response to a call with an internal error', async t => {
  const faults: unknown[] = [];
  const render = optionsFor(() => allow).answer;
  const gateway = createGrpcListener({
    ...optionsFor(() => allow),
    answer(decision) {
      if (decision.kind !== 'unavailable') throw new Error('no answer');
      return render(decision);
    },
    onDecision() {
      throw new Error('no counter');
    },
    onFault: error => faults.push(error),
  });
  t.teardown(() => gateway.destroy());
  const session = rawSession(t, await gateway.listen({ host: '127.0.0.1', port: 0 }));
  t.match(await rawCall(session, {}, framed(CHECK)), { status: '0', code: 0 });
  t.match(faults, [{ message: 'no answer' }, { message: 'no counter' }]);
});

t.test('a call cancelled during its review gets no response, and its connection stays usable', async t => {
  const decisions: PromiseWithResolvers<Decision>[] = [];
  const { address, faults, decided } = await startListener(t, () => {
    const decision = Promise.withResolvers<Decision>();
    decisions.push(decision);
    return decision.promise;
  });
  const session = rawSession(t, address);
  const cancelled = beginCall(session);
  const ended = answerTo(cancelled);
  cancelled.end(framed(CHECK));
  await until(() => decisions.length === 1);
  cancelled.close(constants.NGHTTP2_CANCEL);
  await ended;
  const next = rawCall(session, {}, framed(CHECK));
  await until(() => decisions.length === 2);
  for (const { resolve } of decisions) resolve(allow);
  t.match(await next, { status: '0' });
  t.equal(decided.length, 2);
  t.strictSame(faults, []);
});

t.test('closing the gRPC listener waits for calls in flight', async t => {
  const started = Promise.withResolvers<void>();
  const decision = Promise.withResolvers<Decision>();
  const { client, gateway } = await startListener(t, () => {
    started.resolve();
    return decision.promise;
  });
  const answer = client.checkHeaders({ authorization: 'Bearer abc' });
  await started.promise;
  const closed = gateway.close();
  decision.resolve(allow);
  t.equal((await answer).status.code, 0);
  await closed;
});

t.test('closing the gRPC listener does not wait for a connection without a call', async t => {
  const { gateway, address } = await startListener(t, () => allow);
  const silent = connectTcp(Number(address.split(':')[1]), '127.0.0.1');
  await once(silent, 'connect');
  await gateway.close();
  silent.resume();
  await once(silent, 'close');
});

t.test('a gRPC connection that does not answer pings is closed', async t => {
  const { address } = await startListener(t, () => allow, { pingEveryMs: 20 });
  const silent = connectTcp(Number(address.split(':')[1]), '127.0.0.1');
  silent.resume();
  await once(silent, 'close');
});

t.test('a deadline of 20 days does not time out immediately', async t => {
  const decision = Promise.withResolvers<Decision>();
  const { client } = await startListener(t, () => decision.promise);
  const answer = client.checkHeaders({ authorization: 'Bearer a' }, new Date(Date.now() + 20 * 24 * 3_600_000));
  decision.resolve(allow);
  t.equal((await answer).status.code, 0);
});

t.test('a gRPC connection may have 1,024 concurrent streams', async t => {
  const { address } = await startListener(t, () => allow);
  const session = connect(`http://${address}`);
  t.teardown(() => session.destroy());
  const settings = await new Promise<{ maxConcurrentStreams?: number }>(resolve =>
    session.once('remoteSettings', resolve),
  );
  t.equal(settings.maxConcurrentStreams, 1024);
});

t.test('a check with headers of up to 1 MiB is read, and a larger one is denied without an RPC error', async t => {
  const { client, decided } = await startListener(t, () => allow);
  t.equal((await client.checkHeaders({ x: 'a'.repeat(1_000_000) })).status.code, 0);
  t.match(await client.checkHeaders({ x: 'a'.repeat(1_100_000) }), { status: { code: 16 } });
  t.match(decided[1], { decision: { kind: 'deny', reason: 'credentials_malformed' } });
});

t.test('the body of a check is dropped as it arrives, and the credential before it decides', async t => {
  const { client, decided } = await startListener(t, () => allow);
  for (const [body, raw_body] of [
    ['b'.repeat(6_000_000), ''],
    ['', Buffer.alloc(12_000_000, 'r')],
  ]) {
    const http = { headers: { authorization: 'Bearer abc' }, body, raw_body };
    t.equal((await client.check({ attributes: { request: { http } } })).status.code, 0);
  }
  t.strictSame(
    decided.map(({ credential }) => credential.kind),
    ['token', 'token'],
  );
});

/** Sends bytes as a CheckRequest, for fields that the official files do not have yet. */
function rawClient(t: Test, address: string): (request: Buffer) => Promise<unknown> {
  const client = new Client(address, credentials.createInsecure());
  t.teardown(() => client.close());
  const unchanged = (bytes: Buffer) => bytes;
  return request =>
    new Promise((resolve, reject) =>
      client.makeUnaryRequest(`/${AUTHORIZATION_SERVICE}/Check`, unchanged, unchanged, request, (error, response) =>
        error ? reject(error) : resolve(response),
      ),
    );
}

/** A length-delimited protobuf field. */
function field(number: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2, content.length]), content]);
}

t.test('a gRPC client that disconnects before the decision keeps its address and causes no fault', async t => {
  const started = Promise.withResolvers<void>();
  const decision = Promise.withResolvers<Decision>();
  const reported = Promise.withResolvers<void>();
  const authorize: Authorize = () => {
    started.resolve();
    return decision.promise;
  };
  const { client, gateway, forwarded, faults } = await startListener(t, authorize, {
    peers: ['unix'],
    onDecision: () => reported.resolve(),
  });
  const call = client.checkHeaders({ 'x-request-id': 'r' }).catch(error => error);
  await started.promise;
  gateway.destroy();
  await call;
  decision.resolve({ kind: 'deny', reason: 'credentials_missing', detail: '' });
  await reported.promise;
  t.match(forwarded, [{ clientAddress: '127.0.0.1', requestId: undefined }]);
  t.same(faults, []);
});

t.test('a response that cannot be rendered becomes unavailable, after a review and for an invalid message', async t => {
  const faults: unknown[] = [];
  const render = optionsFor(() => allow).answer;
  const gateway = createGrpcListener({
    ...optionsFor(async () => allow),
    answer(decision) {
      if (decision.kind !== 'unavailable') throw new Error('no answer');
      return render(decision);
    },
    onFault: error => faults.push(error),
  });
  const address = await gateway.listen({ host: '127.0.0.1', port: 0 });
  const client = envoyClient(address);
  t.teardown(() => {
    client.close();
    gateway.destroy();
  });
  t.match(await client.checkHeaders({ authorization: 'Bearer abc' }), { status: { code: 14 } });
  t.match(await rawCall(rawSession(t, address), {}, framed(CHECK, 1)), { status: '0' });
  t.match(faults, [{ message: 'no answer' }, { message: 'no answer' }]);
});

t.test(
  'with a full budget each connection has two pending calls, and further ones are denied as overloaded',
  async t => {
    const decision = Promise.withResolvers<Decision>();
    const decided: DecisionEvent[] = [];
    let authorized = 0;
    const gateway = createGrpcListener({
      ...optionsFor(() => {
        authorized += 1;
        return decision.promise;
      }),
      requests: new Budget(0),
      onDecision: event => decided.push(event),
    });
    t.teardown(() => gateway.destroy());
    const address = await gateway.listen({ host: '127.0.0.1', port: 0 });
    // Message and end of stream arrive together. A message without its end would need memory.
    const call = (session: ReturnType<typeof rawSession>) => {
      const stream = beginCall(session);
      const reply = answerTo(stream);
      stream.end(framed(CHECK));
      return reply;
    };
    const session = rawSession(t, address);
    const waiting = [0, 1].map(() => call(session));
    await until(() => authorized === 2);
    t.match(await call(session), { status: '0', code: 0 }, 'not an RPC error');
    t.match(decided[0], {
      decision: { kind: 'unavailable', reason: 'overloaded', cause: 'transfers_memory_full' },
    });
    const elsewhere = call(rawSession(t, address));
    await until(() => authorized === 3);
    decision.resolve(allow);
    t.match(await Promise.all([...waiting, elsewhere]), [{ status: '0' }, { status: '0' }, { status: '0' }]);
    t.strictSame(
      decided.slice(1).map(event => event.decision.kind),
      ['allow', 'allow', 'allow'],
    );
  },
);
