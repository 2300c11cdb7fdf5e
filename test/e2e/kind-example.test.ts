import { execFile } from 'node:child_process';
import { chmodSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { at, exampleDocuments, exampleReadme, type Yaml } from '../fixtures/examples.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { schemaVersion } from './fixtures/support/gateway-schemas.ts';
import { clusterTools, documentOf, render } from './fixtures/support/helm.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// examples/kind, as far as it can be checked without a container runtime. Its manifests meet the
// schemas in examples-schema.test.ts.

const ROOT = join(import.meta.dirname, '../..');
const UP = join(ROOT, 'examples/kind/up');
/** The programs that the script runs. */
const PROGRAMS = ['docker', 'kind', 'kubectl', 'helm', 'curl'];
const MANIFESTS = ['gateway.yaml', 'application.yaml', 'clients.yaml'].flatMap(file =>
  exampleDocuments('kind/manifests', file),
);
const POLICIES = exampleDocuments('envoy-gateway', 'security-policy.yaml');
const named = ({ kind, metadata }: Yaml) =>
  `${kind} ${at(metadata as Yaml, 'namespace')}/${at(metadata as Yaml, 'name')}`;
const documentNamed = (name: string) => MANIFESTS.find(one => named(one) === name);

t.test('the port of this machine leads to the gateway', async t => {
  const mapping = at(exampleDocuments('kind', 'cluster.yaml')[0], 'nodes[0].extraPortMappings[0]') as Yaml;
  const service = at(documentNamed('EnvoyProxy apps/node-port'), 'spec.provider.kubernetes.envoyService') as Yaml;
  const port = at(service, 'patch.value.spec.ports[0]') as Yaml;
  const gateway = documentNamed('Gateway apps/public');
  t.equal(service['type'], 'NodePort');
  t.equal(port['nodePort'], mapping['containerPort']);
  t.equal(port['port'], at(gateway, 'spec.listeners[0].port'));
  t.equal(port['name'], `http-${port['port']}`, 'the name that Envoy Gateway gives to the port');
  t.equal(mapping['listenAddress'], '127.0.0.1');
  t.match(at(gateway, 'spec.infrastructure.parametersRef'), { kind: 'EnvoyProxy', name: 'node-port' });
  t.equal(at(gateway, 'spec.gatewayClassName'), at(documentNamed('GatewayClass undefined/envoy'), 'metadata.name'));
});

t.test('the policies apply to this gateway, and the route leads to the application', async t => {
  for (const policy of POLICIES.filter(({ kind }) => kind !== 'ReferenceGrant')) {
    t.match(at(policy, 'spec.targetRefs[0]'), { kind: 'Gateway', name: 'public' }, named(policy));
    t.equal(at(policy, 'metadata.namespace'), 'apps', named(policy));
  }
  const route = documentNamed('HTTPRoute apps/app');
  const service = documentNamed('Service apps/app');
  const pod = at(documentNamed('Deployment apps/app'), 'spec.template') as Yaml;
  t.strictSame(at(route, 'spec.parentRefs'), [{ name: 'public' }]);
  t.match(at(route, 'spec.rules[0].backendRefs[0]'), {
    name: 'app',
    port: at(service, 'spec.ports[0].port') as number,
  });
  t.strictSame(at(service, 'spec.selector'), at(pod, 'metadata.labels'));
  t.strictSame(at(documentNamed('NetworkPolicy apps/app'), 'spec.podSelector.matchLabels'), at(pod, 'metadata.labels'));
  t.equal(at(pod, 'spec.containers[0].ports[0].containerPort'), 8000);
  t.match(at(documentNamed('ConfigMap apps/app'), 'data') as Yaml, { 'server.mjs': /server\.listen\(8000\)/ });
});

t.test('the chart has the Service that the policy asks', { skip: skipWithout(gatewayMissing('helm')) }, async t => {
  const [values = {}] = exampleDocuments('kind', 'values.yaml');
  const rendered = await render(clusterTools(t), values);
  const backend = at(POLICIES[0], 'spec.extAuth.http.backendRefs[0]') as Yaml;
  const service = documentOf(rendered, 'Service');
  t.equal(at(service, 'metadata.name'), backend['name']);
  t.ok((at(service, 'spec.ports') as Yaml[]).some(({ port }) => port === backend['port']));
  const app = at(documentNamed('Deployment apps/app'), 'spec.template.spec.containers[0].image');
  t.equal(at(documentOf(rendered, 'Deployment'), 'spec.template.spec.containers[0].image'), app, 'one image');
});

t.test('the status of a denial by the allowlist is the one that the script expects', async t => {
  const stranger = /^expect (\d+) 'a token of apps\/stranger: its namespace is not allowed'/m.exec(
    readFileSync(UP, 'utf8'),
  );
  const status = Number(stranger?.[1]);
  t.equal(at(exampleDocuments('kind', 'values.yaml')[0], 'config.policyDeniedStatus'), status);
  t.match(exampleReadme('kind'), `whose namespace is not allowed | ${status} |`);
});

t.test('the dry run prints the commands in their order, and needs none of the programs', async t => {
  const stub = '#!/bin/sh\necho "$0 $*" >>"$(dirname "$0")/called"\nexit 99\n';
  const directory = tempDir(t, Object.fromEntries(PROGRAMS.map(name => [name, stub])));
  for (const name of PROGRAMS) chmodSync(join(directory, name), 0o755);
  const dryRun = (env: Readonly<Record<string, string>> = {}) =>
    promisify(execFile)(UP, ['--dry-run'], { env: { ...env, PATH: `${directory}:/usr/bin:/bin` } });
  const { stdout, stderr } = await dryRun();
  t.equal(stdout, '');
  const order = [
    /^\+ kind create cluster --config examples\/kind\/cluster\.yaml/,
    /kind load docker-image/,
    /install envoy-gateway/,
    /install gatecar charts\/gatecar/,
    /examples\/envoy-gateway\/security-policy\.yaml/,
    /manifests\/gateway\.yaml/,
    /manifests\/application\.yaml/,
    /manifests\/clients\.yaml/,
    /expected: 200/,
    /expected: 401/,
    /expected: 403/,
  ].map(pattern => stderr.split('\n').findIndex(line => pattern.test(line)));
  t.notOk(order.includes(-1), stderr);
  t.strictSame(
    order,
    order.toSorted((a, b) => a - b),
  );
  const released = await dryRun({ IMAGE: 'example.com/gatecar:1' });
  t.match(released.stderr, /\+ docker pull example\.com\/gatecar:1\n\+ docker tag example\.com\/gatecar:1 /);
  t.notMatch(released.stderr, /docker build/);
  t.notOk(existsSync(join(directory, 'called')), 'no program was run');
});

t.test('the script installs the version of Envoy Gateway whose schemas are checked', async t => {
  const version = await schemaVersion('envoy-gateway');
  t.match(readFileSync(UP, 'utf8'), `envoy_gateway=${version}\n`);
  t.match(exampleReadme('kind'), `Envoy Gateway ${version.slice(1)}`);
});
