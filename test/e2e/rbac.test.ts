import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAllYaml } from '@kubernetes/client-node';
import t from 'tap';
import type { Yaml } from '../fixtures/examples.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { clusterTools, demand, documentOf, render } from './fixtures/support/helm.ts';
import { kubeApiServerMissing, startKubeApiServer, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// The plain manifests, installed and checked with the commands of their README.

const OPERATIONS = readFileSync(join(import.meta.dirname, '../../docs/operations.md'), 'utf8');
const RBAC = join(import.meta.dirname, '../../rbac');

t.setTimeout(startLimitMs);

t.test('rbac/', { skip: skipWithout(kubeApiServerMissing() ?? gatewayMissing('kubectl')) }, async t => {
  const api = await startKubeApiServer();
  t.teardown(() => api.stop());
  const run = clusterTools(t, api.kubeconfigFile);
  const commands = [...readFileSync(join(RBAC, 'README.md'), 'utf8').matchAll(/^kubectl (.*?)(?: +# (yes|no))?$/gm)];

  t.test('installs and is checked as its README says', async t => {
    const expected = commands.map(([, , answer]) => answer).filter(answer => answer !== undefined);
    t.strictSame(expected, ['yes', 'no', 'no', 'no', 'no', 'no']);
    for (const [line, command = '', answer] of commands) {
      const words = command.replaceAll("'", '').replace('rbac/', RBAC).split(' ');
      const { status, stdout, stderr } = await run(
        'kubectl',
        words.filter(word => word !== ''),
      );
      t.equal(status, answer === 'no' ? 1 : 0, `${line}: ${stderr}`);
      if (answer) t.equal(stdout.trim(), answer, line);
    }
  });

  t.test(
    'the pods of docs/operations.md for an installation without Helm are accepted without a warning, and admitted',
    async t => {
      const [yaml = ''] = /(?<=^```yaml\n)apiVersion: apps\/v1\n[\s\S]*?(?=^```)/m.exec(OPERATIONS) ?? [];
      const labels = { 'pod-security.kubernetes.io/warn': 'restricted' };
      await api.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'gatecar', labels } });
      const create = ['create', '--validate=strict', '--warnings-as-errors', '--dry-run=server', '-f', '-'];
      const { status, stdout, stderr } = await run('kubectl', create, yaml);
      t.equal(status, 0, stderr);
      t.match(stdout, /deployment.*created.*\nservice.*created/);
    },
  );

  t.test('gives the same rights as the chart', { skip: skipWithout(gatewayMissing('helm')) }, async t => {
    const plain = loadAllYaml(await demand(run, 'kubectl', ['kustomize', RBAC])) as Yaml[];
    const chart = await render(run);
    t.strictSame(documentOf(plain, 'ClusterRole')['rules'], documentOf(chart, 'ClusterRole')['rules']);
    t.strictSame(
      documentOf(plain, 'ClusterRoleBinding')['subjects'],
      documentOf(chart, 'ClusterRoleBinding')['subjects'],
    );
    t.strictSame(plain.map(({ kind }) => kind).sort(), ['ClusterRole', 'ClusterRoleBinding', 'ServiceAccount']);
  });
});
