import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadYaml } from '@kubernetes/client-node';
import t, { type Test } from 'tap';
import { alertRules, RULES_FILE, type RuleGroups } from '../fixtures/alert-rules.ts';
import { scratch } from '../fixtures/temp-dir.ts';
import { gatewayBinary, gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// The alert rules before the real promtool: its check, and for each alert series that make it fire and series that do not.

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
  const tried = cases.tests.flatMap(one => one.alert_rule_test);
  for (const { alert } of all) {
    const mine = tried.filter(({ alertname }) => alertname === alert);
    t.ok(
      mine.some(({ exp_alerts }) => exp_alerts.length > 0),
      `${alert} fires`,
    );
    t.ok(
      mine.some(({ exp_alerts }) => exp_alerts.length === 0),
      `${alert} does not`,
    );
  }
});

t.test('promtool', { skip: skipWithout(gatewayMissing('promtool')) }, async t => {
  t.test('finds no fault in the rules', async t => {
    const { status, output } = promtool(t, ['check', 'rules', '--lint=all', '--lint-fatal', RULES_FILE]);
    t.equal(status, 0, output);
    t.match(output, `${all.length} rules found`);
  });

  t.test('sees each alert fire for whom it should, and for nobody else', async t => {
    const { status, output } = promtool(t, ['test', 'rules', 'cases.yaml'], files(rules));
    t.equal(status, 0, output);
  });

  t.test('would see one that never fires, and one that always does', async t => {
    for (const expr of ['vector(1) > 1', 'vector(1)']) {
      const groups = rules.groups.map(group => ({ ...group, rules: group.rules.map(rule => ({ ...rule, expr })) }));
      const { status, output } = promtool(t, ['test', 'rules', 'cases.yaml'], files({ groups }));
      t.equal(status, 1);
      for (const { alert } of all) t.match(output, `alertname: ${alert},`, `${alert}: ${expr}`);
    }
  });
});

/** What promtool reads: it compares all labels and all words, so each case gets the label of its rule, and words are left out. */
function files({ groups }: RuleGroups): Record<string, string> {
  const severity = new Map(all.map(({ alert, labels }) => [alert, labels['severity']]));
  const tests = cases.tests.map(one => ({
    ...one,
    alert_rule_test: one.alert_rule_test.map(({ alertname, exp_alerts, ...rest }) => ({
      ...rest,
      alertname,
      exp_alerts: exp_alerts.map(({ exp_labels }) => ({
        exp_labels: { ...exp_labels, severity: severity.get(alertname) },
      })),
    })),
  }));
  const wordless = groups.map(group => ({
    ...group,
    rules: group.rules.map(({ annotations: _, ...rule }) => rule),
  }));
  return {
    'cases.yaml': JSON.stringify({ ...cases, tests }),
    'rules.yaml': JSON.stringify({ groups: wordless }),
  };
}

function promtool(t: Test, args: readonly string[], given: Readonly<Record<string, string>> = {}) {
  const options = { cwd: scratch(t, given), encoding: 'utf8' } as const;
  const { status, stdout, stderr } = spawnSync(gatewayBinary('promtool') ?? 'promtool', args, options);
  return { status, output: `${stdout}${stderr}` };
}
