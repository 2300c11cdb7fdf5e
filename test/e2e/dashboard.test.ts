import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { DASHBOARD_FILE } from '../fixtures/dashboard.ts';
import { gatewayBinary, gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';

// Validates the dashboard strictly against the Go types of Grafana's own schema.

const text = readFileSync(DASHBOARD_FILE, 'utf8');

t.test('the dashboard matches Grafana’s schema', { skip: skipWithout(gatewayMissing('dashboard-check')) }, async t => {
  const check = (input: string) =>
    spawnSync(gatewayBinary('dashboard-check') ?? '', { input, encoding: 'utf8', stdio: 'pipe' });

  t.test('Grafana’s schema finds no fault in the dashboard', async t => {
    t.match(check(text), { status: 0, stderr: '' });
  });

  const faults: Readonly<Record<string, [valid: string, invalid: string, message: RegExp]>> = {
    'an unknown field': ['"graphTooltip":', '"graphTooltips":', /unexpected field 'graphTooltips'/],
    'a wrong type': ['"editable": true', '"editable": "yes"', /editable/],
    'a missing option of a panel': ['"graphMode": "none",', '', /options\.graphMode: required field is missing/],
    'an unknown field of a query': ['"legendFormat":', '"legend":', /targets\[0\].*unexpected field 'legend'/],
  };
  for (const [name, [valid, invalid, message]] of Object.entries(faults)) {
    t.test(`Grafana’s schema finds ${name}`, async t => {
      t.match(check(text.replace(valid, invalid)), { status: 1, stderr: message });
    });
  }
});
