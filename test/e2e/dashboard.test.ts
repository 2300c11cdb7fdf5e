import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { DASHBOARD_FILE } from '../fixtures/dashboard.ts';
import { gatewayBinary, gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// The dashboard before Grafana's own schema, by the Go types that Grafana publishes, strictly.

const text = readFileSync(DASHBOARD_FILE, 'utf8');

t.test('Grafana’s schema', { skip: skipWithout(gatewayMissing('dashboard-check')) }, async t => {
  const check = (input: string) =>
    spawnSync(gatewayBinary('dashboard-check') ?? '', { input, encoding: 'utf8', stdio: 'pipe' });

  t.test('finds no fault in the dashboard', async t => {
    t.match(check(text), { status: 0, stderr: '' });
  });

  const faults: Readonly<Record<string, [good: string, bad: string, told: RegExp]>> = {
    'a field that there is not': ['"graphTooltip":', '"graphTooltips":', /unexpected field 'graphTooltips'/],
    'a wrong type': ['"editable": true', '"editable": "yes"', /editable/],
    'an option of a panel that is missing': [
      '"graphMode": "none",',
      '',
      /options\.graphMode: required field is missing/,
    ],
    'a query’s field that there is not': ['"legendFormat":', '"legend":', /targets\[0\].*unexpected field 'legend'/],
  };
  for (const [what, [good, bad, told]] of Object.entries(faults)) {
    t.test(`would see ${what}`, async t => {
      t.match(check(text.replace(good, bad)), { status: 1, stderr: told });
    });
  }
});
