import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadYaml } from '@kubernetes/client-node';
import t, { type Test } from 'tap';
import { alertRules, RULES_FILE, type RuleGroups } from '../fixtures/alert-rules.ts';
import { tempDir } from '../fixtures/temp-dir.ts';
import { gatewayBinary, gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// Checks the alert rules with the real promtool. For each alert there are series that make it fire
// and series that do not.

interface AlertCase {
  readonly alertname: string;
  readonly exp_alerts: readonly { readonly exp_labels?: Readonly<Record<string, string>> }[];
}

interface Cases {
  readonly tests: readonly { readonly alert_rule_test: readonly AlertCase[] }[];
}

const rules = alertRules();
const cases = loadYaml<Cases>(readFileSync(join(import.meta.dirname, 'fixtures/alert-cases.yaml'), 'utf8'));
const all = rules.groups.flatMap(group => group.rules);

t.test('every alert has a case in which it fires and one in which it does not', async t => {
  const testedCases = cases.tests.flatMap(test => test.alert_rule_test);
  for (const { alert } of all) {
    const casesOfAlert = testedCases.filter(({ alertname }) => alertname === alert);
    t.ok(
      casesOfAlert.some(({ exp_alerts }) => exp_alerts.length > 0),
      `${alert} fires`,
    );
    t.ok(
      casesOfAlert.some(({ exp_alerts }) => exp_alerts.length === 0),
      `${alert} does not fire`,
    );
  }
});

t.test('promtool', { skip: skipWithout(gatewayMissing('promtool')) }, async t => {
  t.test('promtool finds no fault in the alert rules', async t => {
    const { status, output } = promtool(t, ['check', 'rules', '--lint=all', '--lint-fatal', RULES_FILE]);
    t.equal(status, 0, output);
    t.match(output, `${all.length} rules found`);
  });

  t.test('each alert fires for the series that should trigger it, and for no other', async t => {
    const { status, output } = promtool(t, ['test', 'rules', 'cases.yaml'], files(rules));
    t.equal(status, 0, output);
  });

  t.test('promtool finds an alert that never fires and one that always fires', async t => {
    for (const expr of ['vector(1) > 1', 'vector(1)']) {
      const groups = rules.groups.map(group => ({ ...group, rules: group.rules.map(rule => ({ ...rule, expr })) }));
      const { status, output } = promtool(t, ['test', 'rules', 'cases.yaml'], files({ groups }));
      t.equal(status, 1);
      for (const { alert } of all) t.match(output, `alertname: ${alert},`, `${alert}: ${expr}`);
    }
  });
});

/**
 * The input files of promtool. promtool compares all labels and annotations, so each case gets its
 * rule's severity, and annotations are left out.
 */
function files({ groups }: RuleGroups): Record<string, string> {
  const severity = new Map(all.map(({ alert, labels }) => [alert, labels['severity']]));
  const tests = cases.tests.map(test => ({
    ...test,
    alert_rule_test: test.alert_rule_test.map(({ alertname, exp_alerts, ...rest }) => ({
      ...rest,
      alertname,
      exp_alerts: exp_alerts.map(({ exp_labels }) => ({
        exp_labels: { ...exp_labels, severity: severity.get(alertname) },
      })),
    })),
  }));
  const withoutAnnotations = groups.map(group => ({
    ...group,
    rules: group.rules.map(({ annotations: _, ...rule }) => rule),
  }));
  return {
    'cases.yaml': JSON.stringify({ ...cases, tests }),
    'rules.yaml': JSON.stringify({ groups: withoutAnnotations }),
  };
}

function promtool(t: Test, args: readonly string[], inputFiles: Readonly<Record<string, string>> = {}) {
  const options = { cwd: tempDir(t, inputFiles), encoding: 'utf8' } as const;
  const { status, stdout, stderr } = spawnSync(gatewayBinary('promtool') ?? 'promtool', args, options);
  return { status, output: `${stdout}${stderr}` };
}
