import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAllYaml } from '@kubernetes/client-node';
import t from 'tap';
import { chartName } from '../../scripts/chart/values-schema.ts';
import { readConfig } from '../../src/config/load.ts';
import { SETTINGS } from '../../src/config/schema.ts';
import { formerNames } from '../../src/config/setting-names.ts';
import { IDENTITY_HEADERS } from '../../src/identity/identity-headers.ts';
import { alertRules, RUNBOOK_ADDRESS, type RuleGroups } from '../fixtures/alert-rules.ts';
import { configValues } from '../fixtures/chart-values.ts';
import { DASHBOARD_FILE } from '../fixtures/dashboard.ts';
import { at, type Yaml } from '../fixtures/examples.ts';
import { badSettings, goodSettings, rulesWithFixtures } from '../fixtures/settings.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import {
  CHART,
  clusterTools,
  commandOf,
  containerOf,
  demand,
  documentOf,
  environmentOf,
  podOf,
  render,
  template,
} from './fixtures/support/helm.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// Renders the chart with real Helm: it accepts the values that gatecar accepts, and rejects the
// values that gatecar rejects.

/** Valid for gatecar, and rejected by the chart for its own reasons. */
const CHART_REJECTS: Readonly<Record<string, RegExp>> = {
  'ops-listen': /config\.opsListen must be reachable from outside the pod, by the kubelet's probes; got "\[::1\]:8081"/,
  'listeners-differ': /config\.listen and config\.opsListen must differ/,
};

t.test('the chart accepts the values that gatecar accepts', { skip: skipWithout(gatewayMissing('helm')) }, async t => {
  const run = clusterTools(t);
  // A pod of another application, in which gatecar may also listen on loopback.
  const parent = tempDir(t);
  cpSync(join(import.meta.dirname, 'fixtures/parent-chart'), parent, { recursive: true });
  cpSync(CHART, join(parent, 'charts/gatecar'), { recursive: true });
  const inPod = (config: Yaml) => template(run, { gatecar: { config } }, parent);

  t.test('helm lint --strict finds no fault in the chart', async t => {
    const { status, stdout } = await run('helm', ['lint', '--strict', CHART]);
    t.equal(status, 0);
    t.notMatch(stdout, /WARNING|ERROR/);
  });

  const defaults = environmentOf(containerOf(podOf(await render(run))), []);

  for (const rule of rulesWithFixtures()) {
    t.test(`${rule}: the chart passes a valid value to gatecar, and rejects an invalid one by name`, async t => {
      const valid = goodSettings(rule);
      const rejection = CHART_REJECTS[rule];
      if (rejection) {
        t.match((await inPod(configValues(valid))).stderr, rejection);
      } else {
        const documents = await render(run, { gatecar: { config: configValues(valid) } }, parent);
        const env = environmentOf(containerOf(podOf(documents)), documents);
        const settingsOfParent = {
          GATECAR_LISTEN: 'unix:/run/gatecar/auth.sock',
          GATECAR_SOCKET_MODE: '0660',
          GATECAR_ALLOWED_NAMESPACES: 'ci',
        };
        t.strictSame(readConfig([], env), readConfig([], { ...defaults, ...settingsOfParent, ...valid }));
      }
      const invalid = badSettings(rule);
      const { status, stderr } = await inPod(configValues(invalid));
      t.not(status, 0);
      const keys = Object.keys(invalid).map(chartName).join('|');
      t.match(stderr, new RegExp(`config[./](${keys})\\b`));
    });
  }

  t.test('the chart passes every setting as an environment variable', async t => {
    const env = Object.assign({}, ...Object.values(SETTINGS).map(({ name }) => goodSettings(settingRule(name))));
    // Each of these settings excludes another one.
    const { GATECAR_KUBE_API_URL: _, ...config } = { ...env, GATECAR_OPS_LISTEN: ':9081', GATECAR_LISTEN: ':9080' };
    const documents = await render(run, { config: configValues({ ...config, GATECAR_GRPC_LISTEN: ':9082' }) });
    const found = environmentOf(containerOf(podOf(documents)), documents);
    const missing = Object.values(SETTINGS).filter(({ name }) => !(name in found));
    t.strictSame(
      missing.map(({ name }) => name),
      ['GATECAR_KUBE_API_URL'],
    );
    t.doesNotThrow(() => readConfig([], found));
  });

  const rejectedValues: Readonly<Record<string, readonly [values: Yaml, named: RegExp]>> = {
    'an unknown value': [{ replicas: 3 }, /'replicas' not allowed/],
    'an unknown value in a group': [{ image: { repo: 'x' } }, /image.*'repo' not allowed/],
    'an unknown setting': [{ config: { cacheTTL: '10s' } }, /config.*'cacheTTL' not allowed/],
    'a setting by the name of its variable': [
      { config: { GATECAR_CACHE_TTL: '10s' } },
      /'GATECAR_CACHE_TTL' not allowed/,
    ],
    'a string instead of a number': [{ replicaCount: 'two' }, /replicaCount.*want integer/],
    'a number instead of a string': [{ podAnnotations: { a: 1 } }, /podAnnotations\/a.*want string/],
    'an unknown setting in extraEnv': [{ extraEnv: [{ name: 'GATECAR_CACHETTL' }] }, /extraEnv\/0\/name/],
    'a setting in both config and extraEnv': [
      { extraEnv: [{ name: 'GATECAR_LISTEN', value: ':1' }] },
      /extraEnv: GATECAR_LISTEN must be set as config\.listen, which has a value already/,
    ],
    'a setting by gatecar’s name and by bindcar’s': [
      { extraEnv: [{ name: 'BIND_TOKEN_AUDIENCES', value: 'other' }] },
      /extraEnv: BIND_TOKEN_AUDIENCES must be set as config\.tokenAudiences, which has a value already/,
    ],
    'a certificate in both tls and extraEnv': [
      { tls: { existingSecret: 'tls' }, extraEnv: [{ name: 'GATECAR_TLS_CERT_FILE', value: '/a' }] },
      /extraEnv: GATECAR_TLS_CERT_FILE is set by tls already/,
    ],
    'more memory than the container’s limit': [
      { config: { memoryLimit: '512Mi' } },
      /config\.memoryLimit must not be more than resources\.limits\.memory; got "512Mi" and "256Mi"/,
    ],
    'two certificates': [
      { tls: { existingSecret: 'tls' }, config: { tlsCertFile: '/a', tlsKeyFile: '/b' } },
      /tls\.existingSecret and config\.tlsCertFile/,
    ],
    'two client CAs': [
      { tls: { existingSecret: 'tls', clientCaSecret: 'ca' }, config: { tlsClientCaFile: '/a' } },
      /tls\.clientCaSecret and config\.tlsClientCaFile/,
    ],
    'too little time to drain': [
      { terminationGracePeriodSeconds: 20 },
      /terminationGracePeriodSeconds must be more than the 20 s/,
    ],
    'a drain that takes all the time': [
      { terminationGracePeriodSeconds: 60, config: { shutdownTimeout: '1m' } },
      /terminationGracePeriodSeconds must be more than the 65 s/,
    ],
    'a Service that reaches no listener': [
      { config: { listen: '127.0.0.1:9080' } },
      /config\.listen must be reachable/,
    ],
    'an invalid port': [{ config: { listen: ':70000' } }, /config\.listen must have a port from 1 to 65535/],
    'an autoscaler without room to scale': [{ autoscaling: { minReplicas: 9 } }, /autoscaling\.minReplicas/],
    'two disruption budgets': [
      { podDisruptionBudget: { minAvailable: 1 } },
      /podDisruptionBudget needs exactly one of/,
    ],
    'a name that is invalid for a Service': [{ fullnameOverride: 'My.App' }, /fullnameOverride/],
    'a name that is invalid as a label': [{ nameOverride: 'a b' }, /nameOverride/],
    'two equal ports of the Service': [
      { service: { port: 9081 } },
      /service\.opsPort and service\.port must differ; got 9081/,
    ],
    'a gRPC port equal to the auth port of the Service': [
      { config: { grpcListen: ':9082' }, service: { grpcPort: 9080 } },
      /service\.grpcPort and service\.port must differ; got 9080/,
    ],
    'two kinds of monitors': [
      { metrics: { serviceMonitor: { enabled: true }, podMonitor: { enabled: true } } },
      /metrics\.serviceMonitor and metrics\.podMonitor/,
    ],
    'an unknown alert to leave out': [
      { metrics: { prometheusRule: { disabled: ['GatecarAbsend'] } } },
      /metrics\.prometheusRule\.disabled .*"GatecarAbsend"/,
    ],
    'an invalid digest': [{ image: { digest: 'latest' } }, /image\/digest/],
    'a client CA without TLS': [{ tls: { clientCaSecret: 'ca' } }, /tls\.clientCaSecret .* need tls\.existingSecret/],
  };
  for (const [name, [values, message]] of Object.entries(rejectedValues)) {
    t.test(`the chart rejects ${name} by name`, async t => {
      const { status, stderr } = await template(run, values);
      t.not(status, 0);
      t.match(stderr, message);
    });
  }

  t.test('config.memoryLimit is compared with the container’s limit in any notation', async t => {
    const rendered = async (memoryLimit: string, memory: string | number | null) =>
      (await template(run, { config: { memoryLimit }, resources: { limits: { memory } } })).status === 0;
    t.equal(await rendered('1Gi', '1024Mi'), true);
    t.equal(await rendered('1025Mi', '1Gi'), false);
    t.equal(await rendered('1Gi', null), true, 'no limit');
    t.equal(await rendered('1Gi', 268435456), true, 'a unit that only gatecar check compares');
  });

  t.test('the termination grace period follows from the settings, and can be set', async t => {
    const gracePeriodOf = async (values: Yaml) =>
      at(podOf(await render(run, values)), 'spec.terminationGracePeriodSeconds');
    t.equal(await gracePeriodOf({}), 30);
    t.equal(await gracePeriodOf({ config: { shutdownDelay: '1500ms', shutdownTimeout: '1m' } }), 72);
    t.equal(await gracePeriodOf({ terminationGracePeriodSeconds: 90 }), 90);
  });

  t.test('a changed allowlist rolls the pods, and other changes of the ConfigMap do not', async t => {
    const checksum = async (values: Yaml) =>
      JSON.stringify(at(podOf(await render(run, values)), 'metadata.annotations'));
    const original = await checksum({ config: { allowedNamespaces: ['ci'] } });
    t.not(await checksum({ config: { allowedNamespaces: ['ci', 'dns-system'] } }), original);
    t.not(await checksum({ config: { allowedServiceAccounts: ['system:serviceaccount:ci:a'] } }), original);
    t.equal(await checksum({ config: { allowedNamespaces: ['ci'], cacheTtl: '1s' } }), original);
  });

  t.test('an image is referenced by its digest if one is set', async t => {
    const imageOf = async (image: Yaml) => containerOf(podOf(await render(run, { image })))['image'];
    const digest = `sha256:${'0'.repeat(64)}`;
    t.equal(await imageOf({ repository: 'a/b', tag: '1' }), 'a/b:1');
    t.equal(await imageOf({ repository: 'a/b', tag: '1', digest }), `a/b@${digest}`);
  });

  t.test('an alias of a setting counts as that setting', async t => {
    const settings = Object.values(SETTINGS);
    for (const { name, aliases } of settings) {
      for (const alias of aliases) {
        const values = {
          config: configValues(goodSettings(settingRule(name))),
          extraEnv: [{ name: alias, value: 'x' }],
        };
        const message = `extraEnv: ${alias} must be set as config.${chartName(name)}, which has a value already`;
        t.match((await template(run, values)).stderr, message);
      }
    }
    t.ok(settings.some(({ aliases }) => aliases.length > 0));
    await t.resolves(render(run, { config: { tokenAudiences: null } }), 'a setting that is set to null is unset');
  });

  t.test('a former name of a config value is accepted, but not together with the current name', async t => {
    let count = 0;
    for (const setting of Object.values(SETTINGS)) {
      const { name } = setting;
      const valid = configValues(goodSettings(settingRule(name)));
      for (const formerName of formerNames(setting)) {
        count += 1;
        const [current, former] = [chartName(name), chartName(formerName)];
        const { [current]: value, ...rest } = valid;
        const env = containerOf(podOf(await render(run, { config: { ...rest, [former]: value } })))['env'];
        t.ok(
          (env as Yaml[]).some(entry => entry['name'] === name),
          `${former} sets ${name}`,
        );
        const both = { ...rest, [current]: value, [former]: value };
        const message = `config.${former} and config.${current} must not both be set`;
        t.match((await template(run, { config: both })).stderr, message);
      }
    }
    t.ok(count > 0);
  });

  /** `config` without the chart's defaults, which would already set these settings. */
  const config = {
    listen: null,
    opsListen: null,
    tokenAudiences: null,
    shutdownDelay: null,
    shutdownTimeout: null,
  };

  t.test('a setting in extraEnv is rejected with the value to use instead, under each of its names', async t => {
    for (const { name, aliases } of Object.values(SETTINGS)) {
      for (const variable of [name, ...aliases]) {
        const message = `extraEnv: ${variable} must be set as config.${chartName(name)}`;
        for (const entry of [{ name: variable, value: '1h' }, { name: variable }]) {
          t.match((await template(run, { config, extraEnv: [entry] })).stderr, message, variable);
        }
      }
    }
  });

  t.test('a setting may come from a Secret unless ports, Service or drain follow from it', async t => {
    const from = (name: string) => ({ name, valueFrom: { secretKeyRef: { name: 'secret', key: 'text' } } });
    const extraEnv = [from('GATECAR_KUBE_HEADERS'), from('NODE_OPTIONS')];
    t.match((containerOf(podOf(await render(run, { extraEnv })))['env'] as Yaml[]).slice(-2), extraEnv);
    const derivedSettings = {
      GATECAR_SHUTDOWN_TIMEOUT: 'shutdownTimeout',
      GATECAR_SHUTDOWN_DELAY: 'shutdownDelay',
      GATECAR_LISTEN: 'listen',
      GATECAR_OPS_LISTEN: 'opsListen',
      GATECAR_GRPC_LISTEN: 'grpcListen',
      GATECAR_TLS_CERT_FILE: 'tlsCertFile',
      GATECAR_TLS_KEY_FILE: 'tlsKeyFile',
      GATECAR_TLS_CLIENT_CA_FILE: 'tlsClientCaFile',
      GATECAR_IDENTITY_HEADER_PREFIX: 'identityHeaderPrefix',
    };
    for (const [name, key] of Object.entries(derivedSettings)) {
      t.match(
        (await template(run, { config, extraEnv: [from(name)] })).stderr,
        `extraEnv: ${name} must be set as config.${key}:`,
      );
    }
  });

  t.test('every value reaches the container as written, whatever Kubernetes expands', async t => {
    const texts = [
      '$',
      '$$',
      '$$$',
      '$(HOME)',
      '$$(HOME)',
      '$(GATECAR_KUBECONFIG)',
      '$(',
      'a$b',
      '${X',
      '$e$(',
      '$$$(A)$',
    ];
    for (const text of texts) {
      const path = `/a${text}`;
      const config = {
        kubeconfig: path,
        kubeContext: text,
        tlsCertFile: path,
        tlsKeyFile: path,
        tokenAudiences: [text],
      };
      const documents = await render(run, { config });
      const found = environmentOf(containerOf(podOf(documents)), documents);
      t.match(
        found,
        {
          GATECAR_KUBECONFIG: path,
          GATECAR_KUBE_CONTEXT: text,
          GATECAR_TLS_CERT_FILE: path,
          GATECAR_TLS_KEY_FILE: path,
          GATECAR_TOKEN_AUDIENCES: text,
        },
        text,
      );
      const check = documents.find(
        object => at(object, 'metadata.name') === 'gatecar-check' && object['kind'] === 'Pod',
      );
      t.strictSame(
        environmentOf(containerOf(check as Yaml, 'check'), documents),
        found,
        '`helm test` gets the same values',
      );
    }
    const documents = await render(run);
    const test = documents.find(object => at(object, 'metadata.name') === 'gatecar-test' && object['kind'] === 'Pod');
    const script = readFileSync(join(CHART, 'files/smoke-test.mjs'), 'utf8');
    t.equal(
      commandOf(containerOf(test as Yaml, 'smoke-test'), documents)
        .at(-1)
        ?.trim(),
      script.trim(),
    );
  });

  t.test('the README’s fragment for a sidecar in another pod renders as printed', async t => {
    const readme = readFileSync(join(CHART, 'README.md'), 'utf8');
    const [, fragment = ''] = /^```yaml\n(spec:\n {2}template:\n[^`]*)^```/m.exec(readme) ?? [];
    const chart = tempDir(t);
    cpSync(parent, chart, { recursive: true });
    const head = 'apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: my-app }\n';
    writeFileSync(join(chart, 'templates/app.yaml'), head + fragment);
    const pod = podOf(await render(run, {}, chart));
    t.match(at(pod, 'spec.securityContext'), { fsGroup: 65532 });
    t.match(at(pod, 'metadata.annotations'), { 'gatecar/allowlists': /^[0-9a-f]{64}$/ });
    t.match(containerOf(pod)['volumeMounts'], [{}, { name: 'gatecar-socket', mountPath: '/run/gatecar' }]);
    t.equal((at(pod, 'spec.containers') as Yaml[]).length, 2);
  });

  t.test('the chart expands variables of extraEnv as Kubernetes does', async t => {
    const extraEnv = [
      { name: 'A', value: 'x' },
      { name: 'B', value: '$(A)-$$(A)-$(C)' },
    ];
    const documents = await render(run, { extraEnv });
    t.match(environmentOf(containerOf(podOf(documents)), documents), { A: 'x', B: 'x-$(A)-$(C)' });
  });

  t.test('a name stays a string if YAML would read it as a number or boolean', async t => {
    const texts = (value: unknown, isText = false): unknown[] => {
      if (typeof value !== 'object' || value === null) return isText ? [value] : [];
      return Object.entries(value).flatMap(([key, inner]) =>
        texts(
          inner,
          /^(\w*[lL]abels|annotations|\w*[nN]ame|namespace|audience|path)$/.test(key) || (isText && key !== '0'),
        ),
      );
    };
    const names = { fullnameOverride: 'true', nameOverride: '1e5', serviceAccount: { name: '0x1f' } };
    const tls = { existingSecret: '123', clientCaSecret: '456' };
    for (const values of [
      { ...names, tls, config: { tokenAudiences: ['7'] } },
      { tls: { existingSecret: '123' } },
      { ingress: { enabled: true, className: '1', serviceName: '2', tlsSecret: '3' }, autoscaling: { enabled: true } },
      {
        metrics: { serviceMonitor: { enabled: true }, prometheusRule: { enabled: true }, dashboard: { enabled: true } },
      },
      { metrics: { podMonitor: { enabled: true } }, config: { allowedNamespaces: ['1'] } },
    ]) {
      const args = ['template', '2024', CHART, '--namespace', '123', '--values', '-'];
      const documents = loadAllYaml(await demand(run, 'helm', args, JSON.stringify(values)));
      const found = documents.flatMap(document => texts(document));
      t.ok(found.includes('2024') && found.includes('123'));
      t.strictSame(
        found.filter(text => typeof text !== 'string'),
        [],
      );
    }
  });

  t.test('a default that is set to null is unset without an error', async t => {
    const budget = async (podDisruptionBudget: Yaml) => {
      const budget = documentOf(await render(run, { podDisruptionBudget }), 'PodDisruptionBudget');
      return [at(budget, 'spec.minAvailable'), at(budget, 'spec.maxUnavailable')];
    };
    t.strictSame(await budget({ minAvailable: 1, maxUnavailable: null }), [1, undefined]);
    t.strictSame(await budget({ maxUnavailable: 0 }), [undefined, 0]);
    for (const key of ['commonAnnotations', 'podAnnotations', 'affinity'])
      await t.resolves(render(run, { [key]: null }));
    await t.resolves(render(run, { ingress: { enabled: true, annotations: null } }));
    // gatecar's own default then applies, and `helm test` must send a token for it.
    const { stdout } = await template(run, { config: { tokenAudiences: null } });
    t.match(stdout, `audience: "${SETTINGS.tokenAudiences.default}"`);
  });

  t.test(
    'commonLabels do not put the pods of `helm test` behind the Service, and keep them in their NetworkPolicies',
    async t => {
      const common = { 'app.kubernetes.io/name': 'gatecar', 'app.kubernetes.io/instance': 'mine', team: 'platform' };
      const documents = await render(run, { commonLabels: common });
      for (const name of ['gatecar-test', 'gatecar-check']) {
        const [policy, pod] = ['NetworkPolicy', 'Pod'].map(kind =>
          documents.find(object => object['kind'] === kind && at(object, 'metadata.name') === name),
        );
        const labels = at(pod as Yaml, 'metadata.labels');
        t.match(labels, { 'app.kubernetes.io/name': name, 'app.kubernetes.io/instance': 'gatecar', team: 'platform' });
        t.match(labels, at(policy as Yaml, 'spec.podSelector.matchLabels') as object);
      }
    },
  );

  t.test('releases of two namespaces never share a ClusterRole', async t => {
    const roleOf = async (release: string, namespace: string) =>
      /kind: ClusterRole\nmetadata:\n {2}name: (.*)/.exec(
        await demand(run, 'helm', ['template', release, CHART, '--namespace', namespace]),
      )?.[1];
    t.not(await roleOf('c', 'a-b'), await roleOf('b-c', 'a'));
  });

  t.test(
    'the PrometheusRule has the shipped rules, with the runbook address, omissions and additions of the values',
    async t => {
      const rulesOf = async (prometheusRule: Yaml) => {
        const documents = await render(run, { metrics: { prometheusRule: { enabled: true, ...prometheusRule } } });
        return at(documentOf(documents, 'PrometheusRule'), 'spec.groups') as RuleGroups['groups'];
      };
      const { groups } = alertRules();
      t.strictSame(await rulesOf({}), groups);
      const runbookUrl = 'https://wiki.example/gatecar';
      t.strictSame(
        await rulesOf({ runbookUrl }),
        JSON.parse(JSON.stringify(groups).replaceAll(RUNBOOK_ADDRESS, runbookUrl)),
      );
      const rules = (of: RuleGroups['groups']) => of.flatMap(group => group.rules.map(({ alert }) => alert));
      t.strictSame(
        rules(await rulesOf({ disabled: ['GatecarCertificateExpiring', 'GatecarAbsent'] })),
        rules(groups).filter(alert => !['GatecarCertificateExpiring', 'GatecarAbsent'].includes(alert)),
      );
      const ownGroup = { name: 'own', rules: [{ alert: 'Own', expr: 'vector(1)' }] };
      t.strictSame(await rulesOf({ extraGroups: [ownGroup] }), [...groups, ownGroup]);
    },
  );

  t.test('the dashboard ConfigMap has the shipped dashboard and the label by which Grafana finds it', async t => {
    t.strictSame(
      (await render(run)).filter(({ kind }) => kind === 'ConfigMap'),
      [],
    );
    const map = documentOf(await render(run, { metrics: { dashboard: { enabled: true } } }), 'ConfigMap');
    t.match(map, { metadata: { name: 'gatecar-dashboard', labels: { grafana_dashboard: '1' } } });
    t.strictSame(map['data'], { 'gatecar.json': readFileSync(DASHBOARD_FILE, 'utf8') });
  });

  t.test('the Ingress lists every identity header', async t => {
    const documents = await render(run, { ingress: { enabled: true }, config: { identityHeaderPrefix: 'X-Who-' } });
    const annotations = at(documentOf(documents, 'Ingress'), 'metadata.annotations') as Record<string, string>;
    t.strictSame(
      annotations['nginx.ingress.kubernetes.io/auth-response-headers']?.split(',').sort(),
      IDENTITY_HEADERS.map(name => `X-Who-${name}`).sort(),
    );
    t.equal(annotations['nginx.ingress.kubernetes.io/auth-url'], 'http://gatecar.gatecar.svc:9080/auth');
  });
});

/** `GATECAR_TOKEN_AUDIENCES` → `token-audiences`, the name of its fixtures. */
function settingRule(name: string): string {
  return name.slice('GATECAR_'.length).toLowerCase().replaceAll('_', '-');
}
