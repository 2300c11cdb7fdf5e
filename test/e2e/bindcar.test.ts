import { execFile } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { at, exampleDocuments, exampleReadme, type Yaml } from '../fixtures/examples.ts';
import { scratch } from '../fixtures/temp-dir.ts';
import { type BindcarExample, brokenLinks } from './fixtures/support/bindcar-links.ts';
import { gatewayBinary, gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { CHART, clusterTools, demand, type Outcome, render } from './fixtures/support/helm.ts';
import {
  type KubeApiServer,
  kubeApiServerMissing,
  startKubeApiServer,
  startLimitMs,
} from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import { replaceOnce } from './fixtures/support/nginx.ts';

// `examples/bindcar` as it is installed: its manifests and the commands of its README, before a real API server. Who gets
// through its gateways is in bindcar-gateways.test.ts.

const ROOT = join(import.meta.dirname, '../..');
const EXAMPLE = join(ROOT, 'examples/bindcar');
const FILES = ['bind9.yaml', 'network-policy.yaml', 'ingress.yaml', 'client.yaml'];

const missing = kubeApiServerMissing() ?? gatewayMissing('kubectl') ?? gatewayMissing('helm');

t.setTimeout(startLimitMs);

t.test(
  'what belongs together has the same names, labels and ports',
  { skip: skipWithout(gatewayMissing('helm')) },
  async t => {
    const run = clusterTools(t);
    const read = async (spoil: Spoil = {}): Promise<BindcarExample> => {
      const documents = (file: string) => spoiled(exampleDocuments('bindcar', file), spoil[file]);
      const [ours = {}] = documents('values.yaml');
      return {
        bind9: documents('bind9.yaml'),
        policy: documents('network-policy.yaml')[0] ?? {},
        ingress: documents('ingress.yaml')[0] ?? {},
        client: documents('client.yaml'),
        gateway: documents('envoy/gateway.yaml'),
        envoy: documents('envoy/envoy.yaml')[0] ?? {},
        values: ours,
        rendered: await render(run, ours),
      };
    };
    t.strictSame(brokenLinks(await read()), []);

    const drifts: readonly [file: string, what: string, by: string, broken: RegExp][] = [
      [
        'bind9.yaml',
        '"labels":{"app":"bind9","app.kubernetes.io/part-of":"bindy"}},"spec":{"automount',
        '"labels":{"app":"named"}},"spec":{"automount',
        /^NetworkPolicy: .*does not select/,
      ],
      ['bind9.yaml', '"containerPort":8080', '"containerPort":8081', /^Service bindcar, port api/],
      [
        'network-policy.yaml',
        '"podSelector":{"matchLabels":{"app":"bind9"',
        '"podSelector":{"matchLabels":{"app":"dns"',
        /^NetworkPolicy: /,
      ],
      ['network-policy.yaml', '"port":8080', '"port":8081', /^NetworkPolicy, rules/],
      ['network-policy.yaml', '{"port":53,"protocol":"UDP"},', '', /^NetworkPolicy, rules/],
      [
        'network-policy.yaml',
        '"podSelector":{"matchLabels":{"app":"bindcar-gateway"}}',
        '"podSelector":{"matchLabels":{"app":"envoy"}}',
        /^NetworkPolicy, from Envoy/,
      ],
      [
        'network-policy.yaml',
        '},"podSelector":{"matchLabels":{"app":"bindcar-gateway"',
        '}},{"podSelector":{"matchLabels":{"app":"bindcar-gateway"',
        /^a peer is one pod/,
      ],
      [
        'values.yaml',
        '"app.kubernetes.io/component":"controller"',
        '"app.kubernetes.io/component":"x"',
        /^values, ingressFrom/,
      ],
      ['values.yaml', '"tokenAudiences":["bindcar"]', '"tokenAudiences":["dns"]', /^Job, audience/],
      ['values.yaml', '{"config"', '{"service":{"port":9090},"config"', /^auth-url/],
      ['values.yaml', '{"config"', '{"fullnameOverride":"auth","config"', /^Envoy, clusters/],
      ['ingress.yaml', '"port":{"name":"api"}', '"port":{"name":"http"}', /^Ingress, backend/],
      ['client.yaml', '"serviceAccountName":"zone-editor"', '"serviceAccountName":"default"', /^Job, account/],
      [
        'envoy/gateway.yaml',
        '"labels":{"app":"bindcar-gateway"}',
        '"labels":{"app":"envoy"}',
        /^NetworkPolicy, from Envoy/,
      ],
      ['envoy/envoy.yaml', 'bindcar.dns-system', 'bindcar.dns', /^Envoy, clusters/],
      ['envoy/envoy.yaml', '"port_value":8443', '"port_value":443', /^Envoy listens/],
    ];
    for (const [file, what, by, broken] of drifts) {
      const found = brokenLinks(await read({ [file]: [what, by] }));
      t.ok(
        found.some(one => broken.test(one)),
        `${file} with ${by}: ${found.join('; ')}`,
      );
    }
  },
);

t.test('where the restricted Pod Security level is enforced', { skip: skipWithout(missing) }, async t => {
  const { run } = await startServer(t, ['gatecar', 'dns-system', 'ci', 'bindcar-gateway']);
  const create = (input: string, ...more: string[]) =>
    run('kubectl', ['create', '--validate=strict', '--warnings-as-errors', ...more, '-f', '-'], input);
  const accepted = (t: Test, what: string, { status, stdout, stderr }: Outcome) => {
    t.equal(stderr, '', what);
    t.equal(status, 0, what);
    t.match(stdout, /created/, what);
  };

  t.test('each manifest is accepted strictly and without a warning', async t => {
    const dry = (...more: string[]) =>
      run('kubectl', ['create', '--validate=strict', '--warnings-as-errors', '--dry-run=server', ...more]);
    for (const file of FILES) accepted(t, file, await dry('-f', join(EXAMPLE, file)));
    const ours = await demand(run, 'helm', [
      'template',
      'gatecar',
      CHART,
      '-n',
      'gatecar',
      '-f',
      join(EXAMPLE, 'values.yaml'),
    ]);
    accepted(t, 'the chart', await create(ours, '--dry-run=server'));
    const built = await demand(run, 'kubectl', ['kustomize', join(EXAMPLE, 'envoy')]);
    // Its namespace is there already, without which nothing in it can be tried.
    const [, rest = ''] = built.split(/^---\n/m, 2);
    t.match(built, /^kind: Namespace$/m);
    accepted(t, 'envoy/', await create(built.slice(built.indexOf(rest)), '--dry-run=server'));
  });

  t.test('every pod is admitted, and none with the API server’s token in it', async t => {
    const documents = [...FILES, 'envoy/gateway.yaml'].flatMap(file => exampleDocuments('bindcar', file));
    const templates = documents.filter(one => at(one, 'spec.template'));
    t.strictSame(
      templates.map(one => at(one, 'metadata.name')),
      ['bind9', 'list-zones', 'bindcar-gateway'],
    );
    for (const one of templates) {
      const { name, namespace } = at(one, 'metadata') as Record<string, string>;
      const { metadata, spec } = at(one, 'spec.template') as Record<string, Yaml>;
      t.equal(spec?.['automountServiceAccountToken'], false, String(name));
      const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { ...metadata, name, namespace }, spec };
      accepted(t, String(name), await create(JSON.stringify(pod)));
    }
  });
});

t.test('installed as the README says', { skip: skipWithout(missing) }, async t => {
  const { api, run } = await startServer(t);
  const shell = shellIn(t, api);
  const blocks = [...exampleReadme('bindcar').matchAll(/^( *)```sh\n(.*?)^\1```$/gms)].map(
    ([, indent = '', text = '']) => text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  );

  t.test('every command up to those that need a kubelet does its work, without a warning', async t => {
    t.equal(blocks.length, 8);
    for (const block of blocks.slice(0, 7)) {
      const script = block.replaceAll(/^kubectl .*\b(wait|logs)\b.*\n/gm, '');
      const { status, stdout, stderr } = await shell(script);
      t.equal(status, 0, `${script}${stdout}${stderr}`);
      // openssl tells of its progress there.
      if (!script.startsWith('openssl')) t.equal(stderr, '', script);
    }
    const list = await demand(run, 'kubectl', [
      'get',
      'deployments,jobs,ingresses,networkpolicies',
      '-A',
      '-o',
      'name',
    ]);
    t.strictSame(list.trim().split('\n').sort(), [
      'deployment.apps/bind9',
      'deployment.apps/bindcar-gateway',
      'deployment.apps/gatecar',
      'ingress.networking.k8s.io/bindcar',
      'job.batch/list-zones',
      'networkpolicy.networking.k8s.io/bindcar-behind-gateway',
      'networkpolicy.networking.k8s.io/bindcar-gateway',
      'networkpolicy.networking.k8s.io/gatecar',
    ]);
  });

  t.test('whatever the pods mount or read is there', async t => {
    const get = async (kind: string, name: string, namespace: string) =>
      JSON.parse(await demand(run, 'kubectl', ['get', kind, name, '-n', namespace, '-o', 'json'])) as Yaml;
    for (const [kind, name, namespace] of [
      ['deployment', 'bind9', 'dns-system'],
      ['deployment', 'bindcar-gateway', 'bindcar-gateway'],
      ['job', 'list-zones', 'ci'],
    ] as const) {
      const spec = at(await get(kind, name, namespace), 'spec.template.spec') as Yaml;
      for (const volume of spec['volumes'] as Yaml[]) {
        const [map, secret] = [at(volume, 'configMap.name'), at(volume, 'secret.secretName')];
        if (!map && !secret) continue;
        const { data } = await get(map ? 'configmap' : 'secret', String(map ?? secret), namespace);
        const items = (at(volume, 'secret.items') ?? []) as Yaml[];
        t.not(Object.keys(data as Yaml).length, 0);
        for (const { key } of items) t.ok(String(key) in (data as Yaml), `${name}: ${key}`);
      }
    }
    const { data } = (await get('secret', 'rndc', 'dns-system')) as { data: Record<string, string> };
    const key = Buffer.from(data['secret'] ?? '', 'base64').toString();
    t.equal(Buffer.from(key, 'base64').length, 32);
    const named = Buffer.from(data['rndc.key'] ?? '', 'base64').toString();
    t.equal(
      named,
      `key rndc-key { algorithm hmac-sha256; secret "${key}"; };`,
      'both halves of the pod have the same key',
    );
  });

  t.test('the token of the README passes for that account and audience', async t => {
    const [line = ''] = blocks.at(-1)?.split('\n') ?? [];
    const { stdout } = await shell(`${line}\nprintf %s "$TOKEN"`);
    const { user, audiences } = await api.review(stdout, ['bindcar']);
    t.strictSame([user?.username, audiences], ['system:serviceaccount:ci:zone-editor', ['bindcar']]);
  });
});

/** A text of a file's JSON, and what is there instead. */
type Spoil = Readonly<Record<string, readonly [what: string, by: string]>>;

function spoiled(documents: readonly Yaml[], spoil: Spoil[string] | undefined): Yaml[] {
  const text = documents.map(one => JSON.stringify(one)).join('\n');
  const lines = spoil ? replaceOnce(text, ...spoil) : text;
  return lines.split('\n').map(line => JSON.parse(line));
}

/** @param restricted namespaces that enforce the level, and warn of templates that break it. */
async function startServer(t: Test, restricted: readonly string[] = []) {
  const api = await startKubeApiServer();
  t.teardown(() => api.stop());
  const modes = ['enforce', 'warn'].map(mode => [`pod-security.kubernetes.io/${mode}`, 'restricted']);
  for (const name of restricted) {
    await api.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: Object.fromEntries(modes) } });
  }
  return { api, run: clusterTools(t, api.kubeconfigFile) };
}

/** Runs what a reader would paste, in a copy of the repository's root that has the chart and the examples. */
function shellIn(t: Test, api: KubeApiServer): (script: string) => Promise<Outcome> {
  const cwd = scratch(t);
  for (const directory of ['charts', 'examples']) symlinkSync(join(ROOT, directory), join(cwd, directory));
  const tools = (['kubectl', 'helm'] as const).map(name => dirname(gatewayBinary(name) ?? ''));
  const env = { HOME: cwd, KUBECONFIG: api.kubeconfigFile, PATH: [...tools, process.env['PATH']].join(delimiter) };
  return script =>
    new Promise(resolve => {
      execFile('bash', ['--norc', '-euo', 'pipefail', '-c', script], { cwd, env }, (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
      });
    });
}
