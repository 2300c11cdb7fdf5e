import { once } from 'node:events';
import { type Client, credentials, makeClientConstructor } from '@grpc/grpc-js';
import { service } from 'grpc-health-check';
import t, { type Test } from 'tap';
import { answerer } from '../../src/gateway/answer.ts';
import { trustedPeers } from '../../src/gateway/forwarded.ts';
import { AUTHORIZATION_SERVICE, type GrpcGateway, grpcGateway } from '../../src/gateway/grpc.ts';
import { roomyLimits } from '../fixtures/limits.ts';
import { beginCall, framed, rawCall, rawSession } from '../fixtures/raw-call.ts';
import { until } from '../fixtures/until.ts';

const CHECK = '/grpc.health.v1.Health/Check';
const WATCH = '/grpc.health.v1.Health/Watch';

type Watch = AsyncIterable<{ status: string }> & { cancel(): void; on(name: 'error', listener: () => void): void };
type HealthClient = Client & {
  check(request: object, done: (error: Error | null, response: { status: string }) => void): void;
  list(request: object, done: (error: Error | null, response: { statuses: object }) => void): void;
  watch(request: object): Watch;
};

async function start(t: Test): Promise<{ gateway: GrpcGateway; address: string; health: HealthClient }> {
  const gateway = grpcGateway({
    ...roomyLimits(),
    authorize: () => ({ kind: 'allow', identity: undefined }),
    answer: answerer({
      ...{ policyDeniedStatus: 401, unavailableStatus: 503, errorDetail: 'full' },
      identityHeaderPrefix: 'X-',
    }),
    trusted: trustedPeers([]),
    clientIpHeader: undefined,
    onFault: error => t.fail(String(error)),
  });
  const address = await gateway.listen({ host: '127.0.0.1', port: 0 });
  const Health = makeClientConstructor(service as never, 'Health');
  const health = new Health(address, credentials.createInsecure()) as unknown as HealthClient;
  t.teardown(() => {
    health.close();
    gateway.destroy();
  });
  return { gateway, address, health };
}

const statusOf = (health: HealthClient, name: string): Promise<string> =>
  new Promise((resolve, reject) =>
    health.check({ service: name }, (error, response) => (error ? reject(error) : resolve(response.status))),
  );

t.test('both names say whether we serve, and no other is known', async t => {
  const { gateway, health } = await start(t);
  t.equal(await statusOf(health, ''), 'NOT_SERVING');
  gateway.setServing(true);
  t.equal(await statusOf(health, ''), 'SERVING');
  t.equal(await statusOf(health, AUTHORIZATION_SERVICE), 'SERVING');
  gateway.setServing(false);
  t.equal(await statusOf(health, AUTHORIZATION_SERVICE), 'NOT_SERVING');
  for (const name of ['other', 'constructor', 'é']) await t.rejects(statusOf(health, name), { code: 5 });
});

t.test('all of them are listed', async t => {
  const { gateway, health } = await start(t);
  gateway.setServing(true);
  const { statuses } = await new Promise<{ statuses: object }>((resolve, reject) =>
    health.list({}, (error, response) => (error ? reject(error) : resolve(response))),
  );
  t.same(statuses, { '': { status: 'SERVING' }, [AUTHORIZATION_SERVICE]: { status: 'SERVING' } });
});

t.test('who watches is told at once, and of each change until we close', async t => {
  const { gateway, health } = await start(t);
  const [known, unknown] = ['', 'other'].map(name => {
    const watch = health.watch({ service: name });
    return watch[Symbol.asyncIterator]();
  });
  t.strictSame((await known?.next())?.value, { status: 'NOT_SERVING' });
  t.strictSame((await unknown?.next())?.value, { status: 'SERVICE_UNKNOWN' });
  gateway.setServing(true);
  t.strictSame((await known?.next())?.value, { status: 'SERVING' });
  gateway.setServing(true);
  gateway.setServing(false);
  t.strictSame((await known?.next())?.value, { status: 'NOT_SERVING' }, 'and not of what is no change');
  const ends = [known, unknown].map(watch => t.rejects(async () => void (await watch?.next()), { code: 14 }));
  await gateway.close();
  await Promise.all(ends);
});

t.test('who has left is told no more', async t => {
  const { gateway, address, health } = await start(t);
  const session = rawSession(t, address);
  const watching = beginCall(session, { ':path': WATCH });
  watching.end(framed(Buffer.alloc(0)));
  await once(watching, 'data');
  watching.close(8);
  await once(watching, 'close');
  // Gone before it is read.
  const hurried = beginCall(session, { ':path': WATCH });
  hurried.end(framed(Buffer.alloc(0)));
  hurried.close(8);
  await until(async () => (await statusOf(health, '')) === 'NOT_SERVING');
  gateway.setServing(true);
  t.equal(await statusOf(health, ''), 'SERVING');
});

t.test('what cannot be read is refused', async t => {
  const { address } = await start(t);
  const session = rawSession(t, address);
  for (const path of [CHECK, WATCH]) {
    t.match(await rawCall(session, { ':path': path }, framed(Buffer.of(0x0a, 9))), { status: '13', code: 0 });
  }
});

t.test('64 streams may watch at once, and another may when one of them has ended', async t => {
  const { address } = await start(t);
  const session = rawSession(t, address);
  const watch = () => {
    const stream = beginCall(session, { ':path': WATCH });
    stream.end(framed(Buffer.alloc(0)));
    return stream;
  };
  const watching = Array.from({ length: 64 }, watch);
  await Promise.all(watching.map(stream => once(stream, 'data')));
  t.match(await rawCall(session, { ':path': WATCH }, framed(Buffer.alloc(0))), { status: '8', code: 0 });
  watching[0]?.close(8);
  // The server learns of it with the next frames.
  await until(async () => {
    const stream = watch();
    const [first] = await Promise.race([once(stream, 'data'), once(stream, 'close')]);
    return Buffer.isBuffer(first);
  });
});
