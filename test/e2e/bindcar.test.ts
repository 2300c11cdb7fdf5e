import { execFile } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { at, exampleDocuments, exampleReadme, type Yaml } from '../fixtures/examples.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
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

// Tests `examples/bindcar` as installed: its manifests and the commands of its README, against a
// real API server. bindcar-gateways.test.ts tests which requests pass its gateways.

const ROOT = join(import.meta.dirname, '../..');
const EXAMPLE = join(ROOT, 'examples/bindcar');
const FILES = ['bind9.yaml', 'network-policy.yaml', 'ingress.yaml', 'client.yaml'];

const missing = kubeApiServerMissing() ?? gatewayMissing('kubectl') ?? gatewayMissing('helm');

t.setTimeout(startLimitMs);

t.test(
  'the manifests of the example agree in names, labels and ports',
  { skip: skipWithout(gatewayMissing('helm')) },
  async t => {
    const run = clusterTools(t);
    const read = async (change: Change = {}): Promise<BindcarExample> => {
      const documents = (file: string) => withChange(exampleDocuments('bindcar', file), change[file]);
      const [values = {}] = documents('values.yaml');
      return {
        bind9: documents('bind9.yaml'),
        policy: documents('network-policy.yaml')[0] ?? {},
        ingress: documents('ingress.yaml')[0] ?? {},
        client: documents('client.yaml'),
        gateway: documents('envoy/gateway.yaml'),
        envoy: documents('envoy/envoy.yaml')[0] ?? {},
        values,
        rendered: await render(run, values),
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
        found.some(link => broken.test(link)),
        `${file} with ${by}: ${found.join('; ')}`,
      );
    }
  },
);

t.test('under the restricted Pod Security level the example is admitted', { skip: skipWithout(missing) }, async t => {
  const { run } = await startServer(t, ['gatecar', 'dns-system', 'ci', 'bindcar-gateway']);
  const create = (input: string, ...more: string[]) =>
    run('kubectl', ['create', '--validate=strict', '--warnings-as-errors', ...more, '-f', '-'], input);
  const assertCreated = (t: Test, what: string, { status, stdout, stderr }: Outcome) => {
    t.equal(stderr, '', what);
    t.equal(status, 0, what);
    t.match(stdout, /created/, what);
  };

  t.test('each manifest of the example is accepted strictly and without a warning', async t => {
    const dry = (...more: string[]) =>
      run('kubectl', ['create', '--validate=strict', '--warnings-as-errors', '--dry-run=server', ...more]);
    for (const file of FILES) assertCreated(t, file, await dry('-f', join(EXAMPLE, file)));
    const renderedChart = await demand(run, 'helm', [
      'template',
      'gatecar',
      CHART,
      '-n',
      'gatecar',
      '-f',
      join(EXAMPLE, 'values.yaml'),
    ]);
    assertCreated(t, 'the chart', await create(renderedChart, '--dry-run=server'));
    const built = await demand(run, 'kubectl', ['kustomize', join(EXAMPLE, 'envoy')]);
    // The namespace already exists. Otherwise no object in it could be validated.
    const [, rest = ''] = built.split(/^---\n/m, 2);
    t.match(built, /^kind: Namespace$/m);
    assertCreated(t, 'envoy/', await create(built.slice(built.indexOf(rest)), '--dry-run=server'));
  });

  t.test('every pod of the example is admitted without a token of the API server', async t => {
    const documents = [...FILES, 'envoy/gateway.yaml'].flatMap(file => exampleDocuments('bindcar', file));
    const templates = documents.filter(document => at(document, 'spec.template'));
    t.strictSame(
      templates.map(template => at(template, 'metadata.name')),
      ['bind9', 'list-zones', 'bindcar-gateway'],
    );
    for (const template of templates) {
      const { name, namespace } = at(template, 'metadata') as Record<string, string>;
      const { metadata, spec } = at(template, 'spec.template') as Record<string, Yaml>;
      t.equal(spec?.['automountServiceAccountToken'], false, String(name));
      const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { ...metadata, name, namespace }, spec };
      assertCreated(t, String(name), await create(JSON.stringify(pod)));
    }
  });
});

t.test('the commands of the README install the example', { skip: skipWithout(missing) }, async t => {
  const { api, run } = await startServer(t);
  const shell = shellIn(t, api);
  const blocks = [...exampleReadme('bindcar').matchAll(/^( *)```sh\n(.*?)^\1```$/gms)].map(
    ([, indent = '', text = '']) => text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  );

  t.test('every README command that needs no kubelet succeeds without a warning', async t => {
    t.equal(blocks.length, 8);
    for (const block of blocks.slice(0, 7)) {
      const script = block.replaceAll(/^kubectl .*\b(wait|logs)\b.*\n/gm, '');
      const { status, stdout, stderr } = await shell(script);
      t.equal(status, 0, `${script}${stdout}${stderr}`);
      // openssl reports its progress on standard error.
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

  t.test('every ConfigMap and Secret that the pods mount or read exists', async t => {
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
    const fileContent = Buffer.from(data['rndc.key'] ?? '', 'base64').toString();
    t.equal(
      fileContent,
      `key rndc-key { algorithm hmac-sha256; secret "${key}"; };`,
      'both containers of the pod have the same key',
    );
  });

  t.test('the token of the README passes for its account and audience', async t => {
    const [line = ''] = blocks.at(-1)?.split('\n') ?? [];
    const { stdout } = await shell(`${line}\nprintf %s "$TOKEN"`);
    const { user, audiences } = await api.review(stdout, ['bindcar']);
    t.strictSame([user?.username, audiences], ['system:serviceaccount:ci:zone-editor', ['bindcar']]);
  });
});

/** A text in a file's JSON, and its replacement. */
type Change = Readonly<Record<string, readonly [what: string, by: string]>>;

function withChange(documents: readonly Yaml[], change: Change[string] | undefined): Yaml[] {
  const text = documents.map(document => JSON.stringify(document)).join('\n');
  const lines = change ? replaceOnce(text, ...change) : text;
  return lines.split('\n').map(line => JSON.parse(line));
}

/**
 * @param restricted namespaces that enforce the level, and warn about templates that violate it.
 */
async function startServer(t: Test, restricted: readonly string[] = []) {
  const api = await startKubeApiServer();
  t.teardown(() => api.stop());
  const modes = ['enforce', 'warn'].map(mode => [`pod-security.kubernetes.io/${mode}`, 'restricted']);
  for (const name of restricted) {
    await api.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: Object.fromEntries(modes) } });
  }
  return { api, run: clusterTools(t, api.kubeconfigFile) };
}

/**
 * Runs commands as a reader would, in a copy of the repository's root with the chart and the
 * examples.
 */
function shellIn(t: Test, api: KubeApiServer): (script: string) => Promise<Outcome> {
  const cwd = tempDir(t);
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
