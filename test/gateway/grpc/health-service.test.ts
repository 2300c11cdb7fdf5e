import { type Client, credentials, makeClientConstructor } from '@grpc/grpc-js';
import { service } from 'grpc-health-check';
import t, { type Test } from 'tap';
import { createResponseRenderer } from '../../../src/gateway/auth-response.ts';
import { trustedProxies } from '../../../src/gateway/forwarded-headers.ts';
import { AUTHORIZATION_SERVICE, createGrpcListener, type GrpcListener } from '../../../src/gateway/grpc/listener.ts';
import { roomyLimits } from '../../fixtures/limits.ts';
import { framed, rawCall, rawSession } from '../../fixtures/raw-call.ts';
import { RENDERER_OPTIONS } from '../../fixtures/renderer-options.ts';

const CHECK = '/grpc.health.v1.Health/Check';
const WATCH = '/grpc.health.v1.Health/Watch';

type HealthClient = Client & {
  check(request: object, done: (error: Error | null, response: { status: string }) => void): void;
  list(request: object, done: (error: Error | null, response: { statuses: object }) => void): void;
};

async function start(t: Test): Promise<{ gateway: GrpcListener; address: string; health: HealthClient }> {
  const gateway = createGrpcListener({
    ...roomyLimits(),
    authorize: () => ({ kind: 'allow', identity: undefined }),
    answer: createResponseRenderer(RENDERER_OPTIONS),
    trusted: trustedProxies([]),
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

t.test('the health of both service names follows setServing, and other names are NOT_FOUND', async t => {
  const { gateway, health } = await start(t);
  t.equal(await statusOf(health, ''), 'NOT_SERVING');
  gateway.setServing(true);
  t.equal(await statusOf(health, ''), 'SERVING');
  t.equal(await statusOf(health, AUTHORIZATION_SERVICE), 'SERVING');
  gateway.setServing(false);
  t.equal(await statusOf(health, AUTHORIZATION_SERVICE), 'NOT_SERVING');
  for (const name of ['unknown', 'constructor', 'é']) await t.rejects(statusOf(health, name), { code: 5 });
});

t.test('List returns the health of both service names', async t => {
  const { gateway, health } = await start(t);
  gateway.setServing(true);
  const { statuses } = await new Promise<{ statuses: object }>((resolve, reject) =>
    health.list({}, (error, response) => (error ? reject(error) : resolve(response))),
  );
  t.same(statuses, { '': { status: 'SERVING' }, [AUTHORIZATION_SERVICE]: { status: 'SERVING' } });
});

t.test('Watch fails with UNIMPLEMENTED', async t => {
  const { address } = await start(t);
  const answer = await rawCall(rawSession(t, address), { ':path': WATCH }, framed(Buffer.alloc(0)));
  t.match(answer, { status: '12', code: 0 });
});

t.test('a health request that cannot be decoded fails with INTERNAL', async t => {
  const { address } = await start(t);
  const answer = await rawCall(rawSession(t, address), { ':path': CHECK }, framed(Buffer.of(0x0a, 9)));
  t.match(answer, { status: '13', code: 0 });
});
