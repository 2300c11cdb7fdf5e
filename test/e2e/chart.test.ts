import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { loadYaml } from '@kubernetes/client-node';
import t, { type Test } from 'tap';
import { at, type Yaml } from '../fixtures/examples.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { createAuthority, createServerCertificate } from './fixtures/support/certificates.ts';
import { runGatecar } from './fixtures/support/gatecar-command.ts';
import { startGatecar } from './fixtures/support/gatecar-process.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { applyCrd, crdsOf, fetchSchemas, schemasMissing } from './fixtures/support/gateway-schemas.ts';
import {
  CHART,
  clusterTools,
  commandOf,
  containerOf,
  demand,
  documentOf,
  environmentOf,
  isHook,
  podOf,
  type Run,
  render,
} from './fixtures/support/helm.ts';
import { kubeApiServerMissing, startKubeApiServer, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// Installs the chart with real Helm into a real API server. No kubelet runs there: the tests start
// gatecar with the environment and credential that the rendered pod requests.

const VALUES = join(import.meta.dirname, 'fixtures/chart-values');
const README = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8');
const GETTING_STARTED = readFileSync(join(import.meta.dirname, '../../docs/getting-started.md'), 'utf8');
const MONITORS = ['ServiceMonitor', 'PodMonitor', 'PrometheusRule'];
const RELEASE = ['--namespace', 'gatecar'];

const missing = kubeApiServerMissing() ?? schemasMissing() ?? gatewayMissing('helm') ?? gatewayMissing('kubectl');

t.setTimeout(startLimitMs);

t.test('the chart is accepted and works in a cluster', { skip: skipWithout(missing) }, async t => {
  const api = await startKubeApiServer();
  t.teardown(() => api.stop());
  for (const crd of await crdsOf(await fetchSchemas(), 'prometheus-operator', MONITORS)) await applyCrd(api, crd);
  const run = clusterTools(t, api.kubeconfigFile);
  for (const namespace of ['gatecar', 'bare']) {
    const restricted = ['enforce', 'warn'].map(mode => [`pod-security.kubernetes.io/${mode}`, 'restricted']);
    await api.apply({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: namespace, labels: Object.fromEntries(restricted) },
    });
  }

  for (const file of readdirSync(VALUES)) {
    t.test(`${file}: every object is accepted strictly without a warning, and the pods are admitted`, async t => {
      const rendered = await demand(run, 'helm', ['template', 'gatecar', CHART, ...RELEASE, '-f', join(VALUES, file)]);
      await assertAccepted(t, run, rendered);
      await assertAdmitted(t, run, podOf(await renderFile(run, file)));
    });
  }

  for (const name of ['true', 'my.app']) {
    t.test(`a release may have the name ${name}, which YAML reads as a boolean or a Service forbids`, async t => {
      const args = ['template', name, CHART, ...RELEASE, '-f', join(VALUES, 'everything.yaml')];
      await assertAccepted(t, run, await demand(run, 'helm', args));
    });
  }

  t.test('a namespace with the restricted level rejects pods and warns about templates that violate it', async t => {
    const documents = await render(run, { securityContext: { allowPrivilegeEscalation: true } });
    const { stderr } = await create(run, JSON.stringify(podOf(documents)));
    t.match(stderr, /violates PodSecurity "restricted:latest": allowPrivilegeEscalation/);
    const template = await create(run, JSON.stringify(documentOf(documents, 'Deployment')));
    t.match(template.stderr, /Warning: would violate PodSecurity/);
    t.not(template.status, 0, 'a warning is an error');
  });

  t.test('upgrades from the defaults to all features and back leave no object behind', async t => {
    const upgrade = (file: string) => {
      const values = ['-f', join(VALUES, file), '--reset-values'];
      return demand(run, 'helm', ['upgrade', '--install', 'gatecar', CHART, ...RELEASE, ...values]);
    };
    await upgrade('default.yaml');
    const defaults = await objectsOf(run);
    t.strictSame(defaults, namesIn(await renderFile(run, 'default.yaml')));
    await upgrade('everything.yaml');
    t.strictSame(await objectsOf(run), namesIn(await renderFile(run, 'everything.yaml')));
    t.ok((await objectsOf(run)).length > defaults.length + 4);
    await upgrade('default.yaml');
    t.strictSame(await objectsOf(run), defaults);
    await demand(run, 'helm', ['uninstall', 'gatecar', ...RELEASE]);
    t.strictSame(await objectsOf(run), []);
  });

  t.test(
    'in the pod of another application gatecar is admitted, starts first, and has its credential alone',
    async t => {
      const parent = tempDir(t);
      cpSync(join(import.meta.dirname, 'fixtures/parent-chart'), parent, { recursive: true });
      cpSync(CHART, join(parent, 'charts/gatecar'), { recursive: true });
      for (const native of [false, true]) {
        const documents = await render(run, { native }, parent);
        t.strictSame(
          documents.map(({ kind }) => kind).sort(),
          ['ClusterRole', 'ClusterRoleBinding', 'ConfigMap', 'Deployment', 'ServiceAccount'],
          'no object that selects pods is rendered',
        );
        t.match(documentOf(documents, 'ClusterRoleBinding')['subjects'], [{ name: 'my-app', namespace: 'gatecar' }]);
        await assertAccepted(
          t,
          run,
          await demand(run, 'helm', ['template', 'gatecar', parent, ...RELEASE, '--set', `native=${native}`]),
        );
        const pod = podOf(documents);
        await assertAdmitted(t, run, pod);
        const container = containerOf(pod);
        t.equal(container['restartPolicy'], native ? 'Always' : undefined);
        t.match(environmentOf(container, documents), {
          GATECAR_LISTEN: 'unix:/run/gatecar/auth.sock',
          GATECAR_SOCKET_MODE: '0660',
          GATECAR_ALLOWED_NAMESPACES: 'ci',
        });
        const socket = { name: 'gatecar-socket', mountPath: '/run/gatecar' };
        t.match(container['volumeMounts'], [{ mountPath: '/var/run/secrets/kubernetes.io/serviceaccount' }, socket]);
        t.same(containerOf(pod, 'my-gateway')['volumeMounts'], [socket]);
      }
      const without = await render(run, { gatecar: { enabled: false } }, parent).catch(({ message }) => message);
      t.match(without, /nil pointer|no template/, 'the condition of the parent chart applies');
    },
  );

  t.test('an installation as in the README prints the next steps', async t => {
    const [, command = ''] = /^helm (install (?:.*\\\n)*.*)$/m.exec(README) ?? [];
    t.ok(GETTING_STARTED.includes(`\nhelm ${command}\n`), 'docs/getting-started.md has the same command');
    const words = command.replaceAll('\\\n', '').replaceAll("'", '').replace('charts/gatecar', CHART).split(/ +/);
    const notes = await demand(run, 'helm', words);
    for (const next of [
      'rollout status deployment/gatecar',
      'helm test gatecar',
      '//gatecar.gatecar.svc:9080/auth',
      'memory limit of 256Mi',
    ]) {
      t.match(notes, next);
    }
    t.match(notes, 'image.repository is the placeholder', 'the README uses the placeholder');
    const set = ['--set', 'image.repository=registry.example/mine'];
    const withImage = await demand(run, 'helm', ['install', 'other', CHART, '--dry-run=server', ...set]);
    t.notMatch(withImage, 'placeholder');
    t.match(withImage, /Every pod of the cluster can connect.*networkPolicy\.ingressFrom/s);
    const from = ['--set-json', 'networkPolicy.ingressFrom=[{"podSelector":{}}]'];
    t.notMatch(
      await demand(run, 'helm', ['install', 'other', CHART, '--dry-run=server', ...from]),
      'Every pod of the cluster can connect',
    );
    // With a client CA `helm test` can only run `gatecar check`.
    const tls = ['--set', 'tls.existingSecret=tls,tls.clientCaSecret=ca'];
    t.match(await demand(run, 'helm', ['install', 'other', CHART, '--dry-run=server', ...tls]), '\n  helm test other ');
    const untested = ['install', 'other', CHART, '--dry-run=server', '--set', 'tests.enabled=false'];
    t.notMatch(await demand(run, 'helm', untested), 'helm test');
  });

  t.test('the ServiceAccount may create TokenReviews, and otherwise only what every account may', async t => {
    const rightsOf = async (token: string) => {
      const kubeconfig = await api.writeKubeconfig({ it: { token } });
      const list = await demand(clusterTools(t, kubeconfig), 'kubectl', ['auth', 'can-i', '--list', '--no-headers']);
      return list.split('\n').map(line => line.replaceAll(/\s+/g, ' ').trim());
    };
    await api.createServiceAccount('bare', 'bare');
    const defaultRights = await rightsOf(await api.requestToken('bare', 'bare'));
    const gatecarRights = await rightsOf(await api.requestToken('gatecar', 'gatecar'));
    t.strictSame(
      gatecarRights.filter(right => !defaultRights.includes(right)),
      ['tokenreviews.authentication.k8s.io [] [] [create]'],
    );
  });

  /**
   * Starts gatecar as its pod is rendered, except for addresses and files that only a kubelet
   * provides.
   */
  const startRendered = async (
    t: Test,
    documents: readonly Yaml[],
    overrides: Readonly<Record<string, string>> = {},
  ) => {
    t.equal(at(podOf(documents), 'spec.serviceAccountName'), 'gatecar');
    const token = await api.requestToken('gatecar', 'gatecar');
    return await startGatecar(t, {
      ...environmentOf(containerOf(podOf(documents)), documents),
      GATECAR_LISTEN: '127.0.0.1:0',
      GATECAR_OPS_LISTEN: '127.0.0.1:0',
      GATECAR_SHUTDOWN_DELAY: '0s',
      GATECAR_KUBE_API_URL: api.url,
      GATECAR_KUBE_CA_FILE: api.caFile,
      GATECAR_KUBE_TOKEN_FILE: join(tempDir(t, { token }), 'token'),
      ...overrides,
    });
  };
  const ownToken = () => api.requestToken('gatecar', 'gatecar', { audiences: ['bindcar'] });
  const testPod = (documents: readonly Yaml[]) =>
    documentOf(
      documents.filter(object => at(object, 'metadata.name') === 'gatecar-test'),
      'Pod',
    );

  t.test('gatecar authenticates with only that right, and `helm test` verifies it', async t => {
    const documents = await render(run, { config: { allowedNamespaces: ['ci', 'gatecar'] } });
    const gatecar = await startRendered(t, documents);
    const [, first = '', command = ''] =
      /^(kubectl create namespace .*)\nTOKEN=\$\(kubectl (.*)\)$/m.exec(GETTING_STARTED) ?? [];
    for (const line of first.split(' && ')) await demand(run, 'kubectl', line.split(' ').slice(1));
    const clientToken = (await demand(run, 'kubectl', command.split(' '))).trim();
    t.equal(
      (await sendRequest(gatecar.auth, { token: clientToken })).status,
      200,
      'the client token of docs/getting-started.md',
    );
    t.equal((await sendRequest(gatecar.auth, { token: await api.requestToken('ci', 'my-app') })).status, 401);

    const [pod, token] = [testPod(documents), await ownToken()];
    await assertAdmitted(t, run, pod);
    const policies = documents.filter(({ kind }) => kind === 'NetworkPolicy');
    const [serverPolicy, testPolicy] = ['gatecar', 'gatecar-test'].map(name =>
      policies.find(policy => at(policy, 'metadata.name') === name),
    );
    const labels = at(pod, 'metadata.labels') as Record<string, string>;
    t.match(
      labels,
      at(testPolicy, 'spec.podSelector.matchLabels'),
      'a namespace that denies egress lets the test call gatecar',
    );
    t.strictSame(at(testPolicy, 'spec.egress[0].to[0].podSelector'), at(serverPolicy, 'spec.podSelector'));
    t.strictSame(at(testPolicy, 'spec.egress[0].ports[0].port'), at(serverPolicy, 'spec.ingress[0].ports[0].port'));
    t.strictSame(await helmTest(t, pod, gatecar.auth, token), {
      status: 0,
      lines: [
        'ok: without a token: 401 credentials_missing',
        'ok: with an invalid token: 401 token_rejected',
        'ok: with a token of this pod: 200',
      ],
    });
    t.match(await helmTest(t, pod, gatecar.auth, await api.requestToken('gatecar', 'gatecar')), {
      status: 1,
      lines: [/^ok/, /^ok/, /^NOT OK: with a token of this pod: 401 \w+, expected \^200\$$/],
    });
    const expectsDenial = testPod(await render(run, { config: { allowedNamespaces: ['ci'] } }));
    t.match(await helmTest(t, expectsDenial, gatecar.auth, token), {
      status: 1,
      lines: [/^ok/, /^ok/, /^NOT OK: with a token of this pod: 200, expected \^401/],
    });
  });

  t.test('`helm test` also checks the settings, the API server and the rights', async t => {
    const documents = await render(run, { config: { allowedNamespaces: ['ci', 'gatecar'] } });
    const checkObjects = documents.filter(object => at(object, 'metadata.name') === 'gatecar-check');
    const pod = documentOf(checkObjects, 'Pod');
    await assertAdmitted(t, run, pod);
    const [container, server] = [containerOf(pod, 'check'), containerOf(podOf(documents))];
    for (const field of ['image', 'env', 'volumeMounts', 'securityContext', 'resources']) {
      t.strictSame(container[field], server[field], `${field}: the check has the same as gatecar`);
    }
    t.strictSame(at(pod, 'spec.volumes'), at(podOf(documents), 'spec.volumes'));
    const policies = documents.filter(({ kind }) => kind === 'NetworkPolicy');
    const serverPolicy = policies.find(policy => at(policy, 'metadata.name') === 'gatecar');
    const labels = at(pod, 'metadata.labels') as Record<string, string>;
    t.match(labels, at(documentOf(checkObjects, 'NetworkPolicy'), 'spec.podSelector.matchLabels'));
    t.strictSame(at(documentOf(checkObjects, 'NetworkPolicy'), 'spec.egress'), at(serverPolicy, 'spec.egress'));
    const { 'app.kubernetes.io/name': selectedName } = at(serverPolicy, 'spec.podSelector.matchLabels') as Record<
      string,
      string
    >;
    t.not(labels['app.kubernetes.io/name'], selectedName, 'no Service selects the pod of the check');

    const settingsFor = async (account: string) => ({
      ...environmentOf(container, documents),
      GATECAR_LISTEN: '127.0.0.1:0',
      GATECAR_OPS_LISTEN: '127.0.0.1:0',
      GATECAR_KUBE_API_URL: api.url,
      GATECAR_KUBE_CA_FILE: api.caFile,
      GATECAR_KUBE_TOKEN_FILE: join(tempDir(t, { token: await api.requestToken('gatecar', account) }), 'token'),
    });
    const args = commandOf(container, documents);
    t.match(await runGatecar(args, await settingsFor('gatecar')), {
      code: 0,
      out: /^ok {4}rbac +we may create TokenReviews$/m,
    });
    await api.createServiceAccount('gatecar', 'powerless');
    t.match(await runGatecar(args, await settingsFor('powerless')), { code: 1, out: /^fail {2}rbac /m });
  });

  t.test('`helm test` expects a denial if the allowlists exclude its account', async t => {
    const documents = await render(run, { config: { allowedNamespaces: ['ci'], policyDeniedStatus: 403 } });
    const gatecar = await startRendered(t, documents);
    t.match(await helmTest(t, testPod(documents), gatecar.auth, await ownToken()), {
      status: 0,
      lines: [/^ok/, /^ok/, 'ok: with a token of this pod: 403 namespace_denied'],
    });
  });

  t.test('over TLS gatecar answers, and the test verifies its certificate', async t => {
    const directory = tempDir(t);
    const ca = await createAuthority(join(directory, 'ca'), 'ca');
    const { certFile, keyFile } = await createServerCertificate(join(directory, 'server'), ca);
    const documents = await render(run, { tls: { existingSecret: 'gatecar-tls' } });
    const container = containerOf(podOf(documents));
    const files = {
      GATECAR_TLS_CERT_FILE: '/etc/gatecar/tls/tls.crt',
      GATECAR_TLS_KEY_FILE: '/etc/gatecar/tls/tls.key',
    };
    t.match(environmentOf(container, documents), files);
    t.match(container['volumeMounts'], [{}, { name: 'gatecar-tls', mountPath: '/etc/gatecar/tls' }]);
    const gatecar = await startRendered(t, documents, {
      GATECAR_TLS_CERT_FILE: certFile,
      GATECAR_TLS_KEY_FILE: keyFile,
    });
    const [pod, token] = [testPod(documents), await ownToken()];
    const url = gatecar.auth.replace('http:', 'https:');
    t.match(await helmTest(t, pod, url, token, { NODE_EXTRA_CA_CERTS: ca.certFile }), { status: 0 });
    const otherCa = await createAuthority(join(directory, 'stranger'), 'stranger');
    const untrusted = { NODE_EXTRA_CA_CERTS: otherCa.certFile, TEST_SECONDS: '0' };
    t.match(await helmTest(t, pod, url, token, untrusted), { status: 1, lines: [/^NOT OK: without a token: none: /] });
  });
});

/** Creates objects with the warnings of their namespace as errors. */
async function create(run: Run, manifests: string, ...more: string[]) {
  const args = ['create', '--validate=strict', '--warnings-as-errors', '--dry-run=server', ...more, '-f', '-'];
  return await run('kubectl', args, manifests);
}

async function assertAccepted(t: Test, run: Run, manifests: string): Promise<void> {
  const { status, stdout, stderr } = await create(run, manifests);
  t.equal(stderr, '');
  t.equal(status, 0);
  t.match(stdout, /created \(server dry run\)/);
}

async function assertAdmitted(t: Test, run: Run, pod: Yaml): Promise<void> {
  const { status, stderr } = await run('kubectl', ['create', '--warnings-as-errors', '-f', '-'], JSON.stringify(pod));
  t.equal(stderr, '');
  t.equal(status, 0, 'admitted');
  await demand(run, 'kubectl', ['delete', 'pod', String(at(pod, 'metadata.name')), '--now', ...RELEASE]);
}

async function renderFile(run: Run, file: string): Promise<Yaml[]> {
  return await render(run, loadYaml(readFileSync(join(VALUES, file), 'utf8')));
}

/** Returns all objects in the cluster with the release's label. */
async function objectsOf(run: Run): Promise<string[]> {
  const kinds = await demand(run, 'kubectl', ['api-resources', '--verbs=list,create', '--output=name']);
  const listableKinds = kinds
    .trim()
    .split('\n')
    .filter(kind => !kind.startsWith('events'))
    .join(',');
  const label = ['--selector', 'app.kubernetes.io/instance=gatecar', '--all-namespaces'];
  const list = await demand(run, 'kubectl', ['get', listableKinds, ...label, '--output=json']);
  return namesIn(JSON.parse(list).items);
}

/** Returns kinds and names, except for objects that exist only during `helm test`. */
function namesIn(documents: readonly Yaml[]): string[] {
  return documents
    .filter(object => !isHook(object))
    .map(object => `${object['kind']} ${at(object, 'metadata.name')}`)
    .sort();
}

/** Runs the command of the rendered test pod against this gatecar, with this token. */
async function helmTest(
  t: Test,
  pod: Yaml,
  url: string,
  token: string,
  extraEnv: Readonly<Record<string, string>> = {},
) {
  const container = containerOf(pod, 'smoke-test');
  const [program, ...command] = commandOf(container, []);
  t.equal(program, 'node');
  const tokenFile = join(tempDir(t), 'token');
  writeFileSync(tokenFile, token);
  const env = { ...environmentOf(container, []), TEST_URL: `${url}/auth`, TEST_TOKEN_FILE: tokenFile, ...extraEnv };
  const child = spawn(process.execPath, command, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const [lines, [status]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return { status, lines: lines.trim().split('\n') };
}
