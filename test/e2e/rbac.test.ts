import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAllYaml } from '@kubernetes/client-node';
import t from 'tap';
import type { Yaml } from '../fixtures/examples.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { clusterTools, demand, documentOf, render } from './fixtures/support/helm.ts';
import { kubeApiServerMissing, startKubeApiServer, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// Installs the plain manifests and checks them with the commands of their README.

const OPERATIONS = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
const RBAC = join(import.meta.dirname, '../../rbac');

t.setTimeout(startLimitMs);

t.test(
  'the manifests of rbac/',
  { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('kubectl')) },
  async t => {
    const api = await startKubeApiServer();
    t.teardown(() => api.stop());
    const run = clusterTools(t, api.kubeconfigFile);
    const readmeCommands = [
      ...readFileSync(join(RBAC, 'README.md'), 'utf8').matchAll(/^kubectl (.*?)(?: +# (yes|no))?$/gm),
    ];

    t.test('rbac/ is installed and checked as its README says', async t => {
      const expected = readmeCommands.map(([, , answer]) => answer).filter(answer => answer !== undefined);
      t.strictSame(expected, ['yes', 'no', 'no', 'no', 'no', 'no']);
      for (const [line, command = '', answer] of readmeCommands) {
        const words = command.replaceAll("'", '').replace('rbac/', RBAC).split(' ');
        const { status, stdout, stderr } = await run(
          'kubectl',
          words.filter(word => word !== ''),
        );
        t.equal(status, answer === 'no' ? 1 : 0, `${line}: ${stderr}`);
        if (answer) t.equal(stdout.trim(), answer, line);
      }
    });

    t.test('the manifests of docs/operations.md without Helm are accepted without a warning', async t => {
      const [yaml = ''] = /(?<=^```yaml\n)apiVersion: apps\/v1\n[\s\S]*?(?=^```)/m.exec(OPERATIONS) ?? [];
      const labels = { 'pod-security.kubernetes.io/warn': 'restricted' };
      await api.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'gatecar', labels } });
      const create = ['create', '--validate=strict', '--warnings-as-errors', '--dry-run=server', '-f', '-'];
      const { status, stdout, stderr } = await run('kubectl', create, yaml);
      t.equal(status, 0, stderr);
      t.match(stdout, /deployment.*created.*\nservice.*created/);
    });

    t.test('rbac/ grants the same rights as the chart', { skip: skipWithout(gatewayMissing('helm')) }, async t => {
      const plain = loadAllYaml(await demand(run, 'kubectl', ['kustomize', RBAC])) as Yaml[];
      const chart = await render(run);
      t.strictSame(documentOf(plain, 'ClusterRole')['rules'], documentOf(chart, 'ClusterRole')['rules']);
      t.strictSame(
        documentOf(plain, 'ClusterRoleBinding')['subjects'],
        documentOf(chart, 'ClusterRoleBinding')['subjects'],
      );
      t.strictSame(plain.map(({ kind }) => kind).sort(), ['ClusterRole', 'ClusterRoleBinding', 'ServiceAccount']);
    });
  },
);
