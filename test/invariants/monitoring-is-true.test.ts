import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { alertRules, RUNBOOK_ADDRESS } from '../fixtures/alert-rules.ts';
import { panels } from '../fixtures/dashboard.ts';
import { startWithFakeApi } from '../fixtures/gatecar.ts';
import { listenerFiles } from '../fixtures/listener-files.ts';
import { sectionsByAnchor } from '../fixtures/markdown.ts';
import { isScraped, selectorsIn } from '../fixtures/selectors.ts';
import { sendRequest } from '../fixtures/send-request.ts';
import { until } from '../fixtures/until.ts';

// Alerts, dashboard and documentation refer only to metrics, labels and log lines that exist.

const ROOT = join(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const TROUBLESHOOTING = read('docs/troubleshooting.md');
const MONITORING = read('docs/monitoring.md');
/** The pages for operators. The gateways' pages are left out: they have variables of their own. */
const DOCS = ['README.md', 'docs/gateways/index.md', ...globSync('docs/*.md', { cwd: ROOT })].map(read).join('\n');
/**
 * Matches a call that logs a fixed text at `warn` or above, in any quotes. Warnings about settings
 * are not matched: their texts come from the rules. Nor is `unavailable`, the line of a 503.
 */
const SEVERE = /(?:\.(?:warn|error|fatal)\((?:\{.*?\}, )?|logTransition\('warn', )(['"])(.+?)\1/g;
const rules = alertRules().groups.flatMap(group => group.rules);

/** The runbooks by their anchors. */
const sections = sectionsByAnchor(TROUBLESHOOTING);

t.test('each alert has a severity and a meaning, and links to a runbook section that mentions it', async t => {
  for (const { alert, labels, annotations = {} } of rules) {
    t.match(labels['severity'], /^(critical|warning)$/, alert);
    t.match(annotations['summary'], /^\S.*[^.]$/, `${alert}: a heading`);
    t.match(annotations['description'], /\.$/, `${alert}: sentences`);
    const [address, anchor = ''] = annotations['runbook_url']?.split('#') ?? [];
    t.equal(address, RUNBOOK_ADDRESS);
    t.match(sections.get(anchor), `\`${alert}\``, `${alert} in #${anchor}`);
  }
});

t.test('the documentation names every alert, and no other', async t => {
  const alerts = rules.map(({ alert }) => alert).sort();
  t.strictSame([...new Set(TROUBLESHOOTING.match(/\bGatecar[A-Z]\w+/g))].sort(), alerts);
  t.strictSame([...new Set(DOCS.match(/\bGatecar[A-Z]\w+/g))].sort(), alerts);
});

t.test('docs/monitoring.md lists every gatecar metric, and no page has another', async t => {
  const exported = (await scraped(t)).matchAll(/^# TYPE (gatecar_\w+) /gm);
  const metrics = Array.from(exported, ([, name]) => name).sort();
  for (const text of [MONITORING, DOCS]) t.strictSame([...new Set(text.match(/\bgatecar_\w+/g))].sort(), metrics);
});

t.test(
  'the documentation lists every reason, every review outcome and every fixed line logged at warn or above',
  async t => {
    const scrape = await scraped(t);
    const labelValues = (label: string) =>
      new Set(Array.from(scrape.matchAll(new RegExp(`${label}="([^"]+)"`, 'g')), ([, name = '']) => name));
    const reasons = new Set(
      Array.from(scrape.matchAll(/gatecar_requests_total\{.*reason="([^"]+)"/g), ([, name = '']) => name),
    );
    t.ok(reasons.size > 10);
    for (const reason of reasons) t.match(TROUBLESHOOTING, new RegExp(`^\\| [^|]+ \\| \`${reason}\` \\|`, 'm'), reason);
    const outages = [...labelValues('outcome')].filter(
      outcome => !/^(authenticated|rejected|unavailable|success|failure)$/.test(outcome),
    );
    t.ok(outages.length > 10);
    for (const value of [...outages, ...labelValues('reason')]) t.match(DOCS, `\`${value}\``, value);
    for (const cause of outages) t.match(MONITORING, `\`${cause}\``, cause);
    const sources = globSync('src/**/*.ts', { cwd: ROOT }).map(read);
    const lines = sources.flatMap(source => Array.from(source.matchAll(SEVERE), ([, , line = '']) => line));
    t.ok(lines.length > 10, lines.join(', '));
    for (const line of lines) t.match(TROUBLESHOOTING, `\`${line.split(/(?<!stale results)[:;,]/)[0]}`, line);
  },
);

t.test('every metric of a rule or a panel, with its labels, is in a scrape of the running process', async t => {
  const scrape = await scraped(t);
  const queries = panels().flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  t.ok(queries.length > 30);
  const referenced = [...rules.map(({ expr }) => expr), ...queries].flatMap(selectorsIn);
  t.ok(referenced.length > rules.length + queries.length);
  for (const selector of referenced) t.ok(isScraped(scrape, selector), JSON.stringify(selector));
});

t.test('the dashboard shows every gatecar metric from the chosen data source, and describes each panel', async t => {
  const exported = [...(await scraped(t)).matchAll(/^# TYPE (gatecar_\w+) /gm)].map(([, name = '']) => name);
  const selectors = panels().flatMap(({ targets = [] }) => targets.flatMap(({ expr }) => selectorsIn(expr)));
  const names = new Set(selectors.map(({ metric }) => metric.replace(/_bucket$/, '')));
  t.strictSame(
    exported.filter(name => !names.has(name)),
    [],
  );
  for (const { title, description, targets = [], datasource } of panels()) {
    t.match(description, /\.$/, title);
    for (const source of [datasource, ...targets.map(({ datasource }) => datasource)])
      t.equal(source?.uid, '$datasource');
    for (const { expr } of targets) {
      const chosen = expr.match(/namespace=~"\$namespace", job=~"\$job", instance=~"\$instance"/g);
      t.equal(chosen?.length, selectorsIn(expr).length, `${title}: only the chosen instances`);
    }
  }
});

t.test('the dashboard page describes every panel, and its picture shows only panels that exist', async t => {
  const page = read('docs/dashboard.md');
  const titles = panels().map(({ title }) => title);
  for (const title of titles) t.match(page, `*${title.replace(/\?$/, '')}*`, title);
  const titlesInPicture = read('docs/dashboard.svg').matchAll(/<g><rect[^>]*><text[^>]*>([^<]+)</g);
  const drawn = Array.from(titlesInPicture, ([, title = '']) => title);
  t.ok(drawn.length > 20);
  t.strictSame(
    drawn.filter(title => !titles.includes(title)),
    [],
    'npm run picture',
  );
  for (const [, anchor = ''] of page.matchAll(/troubleshooting\.md#([^)]+)/g)) t.ok(sections.has(anchor), anchor);
});

t.test('no two panels overlap', async t => {
  const occupied = new Set<string>();
  for (const { title, gridPos } of panels()) {
    t.ok(gridPos.x + gridPos.w <= 24, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        t.notOk(occupied.has(`${x} ${y}`), `${title} at ${x} ${y}`);
        occupied.add(`${x} ${y}`);
      }
    }
  }
});

t.test('the check finds a metric, label or label value that does not exist', async t => {
  const scrape = await scraped(t);
  for (const query of [
    'sum(rate(gatecar_request_total[5m]))',
    'gatecar_requests_total{outcome="x"}',
    'gatecar_requests_total{decision="denied"}',
    'gatecar_requests_total{decision=~"deny|no"}',
  ]) {
    const selectors = selectorsIn(query);
    t.equal(selectors.length, 1, query);
    t.notOk(
      selectors.every(selector => isScraped(scrape, selector)),
      query,
    );
  }
});

/** Scrapes `/metrics` of a gatecar with every listener enabled. */
async function scraped(t: Test): Promise<string> {
  const { settings } = await listenerFiles(t);
  const gatecar = await startWithFakeApi({ ...settings, GATECAR_GRPC_LISTEN: '127.0.0.1:0' });
  try {
    let scrape = '';
    // The JWKS is fetched in the background.
    await until(async () => {
      scrape = (await sendRequest(gatecar.ops, { path: '/metrics' })).body;
      return isScraped(scrape, { metric: 'gatecar_jwks_available', labels: {} });
    });
    return scrape;
  } finally {
    await gatecar.stop();
  }
}
