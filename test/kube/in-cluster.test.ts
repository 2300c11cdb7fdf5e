import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import t, { type Test } from 'tap';
import { EndpointError } from '../../src/kube/endpoint.ts';
import { inClusterEndpoint } from '../../src/kube/in-cluster.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';

t.test('the in-cluster address comes from the environment; token and CA files are re-read', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one', 'ca.crt': 'AAA' });
  const address = { host: '10.0.0.1', port: '443' };
  const source = inClusterEndpoint(address, volume.path('token'), volume.path('ca.crt'));
  t.match(await source.current(), {
    baseUrl: 'https://10.0.0.1:443',
    headers: { authorization: 'Bearer one' },
    tls: { ca: Buffer.from('AAA') },
    proxyUrl: undefined,
  });
  await volume.swap({ token: 'two', 'ca.crt': 'AAA' });
  source.invalidate();
  t.equal((await source.current()).headers['authorization'], 'Bearer two');
});

t.test('an in-cluster IPv6 address is bracketed in the URL', async t => {
  t.match(await current(t, 'fd00::1', '6443'), { baseUrl: 'https://[fd00::1]:6443' });
});

t.test('the in-cluster address equals that of @kubernetes/client-node', async t => {
  const hosts = ['10.0.0.1', 'fd00::1', 'kubernetes.default.svc'];
  const ports = ['443', '6443', '80', '8080', '8001'];
  t.teardown(() => {
    delete process.env['KUBERNETES_SERVICE_HOST'];
    delete process.env['KUBERNETES_SERVICE_PORT'];
  });
  for (const [host, port] of hosts.flatMap(host => ports.map(port => [host, port] as const))) {
    process.env['KUBERNETES_SERVICE_HOST'] = host;
    process.env['KUBERNETES_SERVICE_PORT'] = port;
    const config = new KubeConfig();
    config.loadFromCluster();
    t.equal((await current(t, host, port)).baseUrl, config.getCurrentCluster()?.server);
  }
});

t.test('an environment without an API server address is an error', async t => {
  for (const [host, port] of [
    ['10.0.0.1', undefined],
    ['', '443'],
    ['10.0.0.1', 'tcp://10.0.0.1:443'],
  ] as const) {
    const create = () => inClusterEndpoint({ host, port }, 'token', 'ca.crt');
    t.throws(create, new EndpointError('the environment names no API server'));
  }
});

function current(t: Test, host: string, port: string) {
  const directory = t.testdir({ token: 'one', 'ca.crt': 'AAA' });
  return inClusterEndpoint({ host, port }, join(directory, 'token'), join(directory, 'ca.crt')).current();
}
