import t, { type Test } from 'tap';
import { RUNBOOK_ADDRESS } from '../fixtures/alert-rules.ts';
import { panels, queryOf } from '../fixtures/dashboard.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { startLoad } from './fixtures/support/load.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import type { ActiveAlert } from './fixtures/support/prometheus.ts';
import { startMonitoredStack } from './fixtures/support/prometheus-stack.ts';
import { until } from './fixtures/support/until.ts';

// A real Prometheus scrapes the running process as in examples/prometheus, and evaluates the
// shipped rules. A minute of the rules takes a second here.

const missing =
  kubeApiServerMissing() ?? gatewayMissing('prometheus') ?? gatewayMissing('helm') ?? gatewayMissing('kubectl');

/** The alerts that an outage triggers. */
const OUTAGE = ['GatecarAPIServerUnreachable', 'GatecarServingStale', 'GatecarUnavailable'];

t.setTimeout(startLimitMs + 120_000);

t.test('Prometheus monitors gatecar', { skip: skipWithout(missing) }, async t => {
  const begin = Date.now() / 1000;
  const stack = await startMonitoredStack(t, {
    GATECAR_ALLOWED_NAMESPACES: 'apps',
    GATECAR_CACHE_TTL: '2s',
    GATECAR_REVIEW_TIMEOUT: '500ms',
    GATECAR_CACHE_STALE_IF_ERROR: '5m',
  });
  const { api, gatecar, prometheus } = stack;

  t.test('Prometheus finds the ops listener and no other port, with namespace and pod', async t => {
    const [target, ...others] = await until('it has scraped', async () => {
      const targets = await prometheus.targets();
      return targets.every(({ health }) => health === 'up') && targets.length > 0 && targets;
    });
    t.strictSame(others, []);
    t.equal(target?.scrapeUrl, `${gatecar.ops}/metrics`);
    t.match(target?.labels, { job: 'gatecar', namespace: 'gatecar', pod: 'pod' });
  });

  const load = await startLoad(t, stack);

  t.test('no critical alert fires for cached, new and invalid tokens', async t => {
    // Before the first scrape there were no samples, for long enough to fire this alert.
    await prometheus.firing('nothing', names => !names.includes('GatecarAbsent'));
    const quietSince = Date.now() / 1000;
    const quietUntil = await until('no alert fires for a while', async () => {
      const now = Date.now() / 1000;
      const [series] = await prometheus.queryRange('gatecar_apiserver_up == 1', quietSince, now);
      return (series?.values.length ?? 0) > 10 && now;
    });
    const critical = 'ALERTS{severity="critical", alertstate="firing"}';
    t.strictSame(await prometheus.queryRange(critical, quietSince, quietUntil), []);
    t.ok(load.answers(200) > 0 && load.answers(401) > 0);
    t.equal(load.answers(503), 0);
  });

  t.test(
    'API server hangs: its alerts fire, with a description and a runbook link, and are resolved when it is back',
    async t => {
      t.teardown(() => api.resume());
      await api.pause();
      const firing = await prometheus.firing('an outage', names => OUTAGE.every(name => names.includes(name)));
      for (const alert of firing.filter(({ labels }) => OUTAGE.includes(labels['alertname'] ?? '')))
        assertDescribed(t, alert);
      t.ok(load.answers(503) > 0);
      api.resume();
      await prometheus.firing('the outage is over', names => !OUTAGE.some(name => names.includes(name)));
    },
  );

  t.test('gatecar’s right is removed: the alert names it, and is resolved when the right is back', async t => {
    t.teardown(() => stack.applyRbac());
    await api.request('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatecar-tokenreview');
    const hasErrorAlert = (names: readonly string[]) => names.includes('GatecarTokenReviewErrors');
    const firing = await prometheus.firing('reviews are denied', hasErrorAlert);
    const alert = firing.find(({ labels }) => labels['alertname'] === 'GatecarTokenReviewErrors');
    t.equal(alert?.labels['outcome'], 'forbidden');
    t.match(alert?.annotations['description'], 'TokenReviews of gatecar/gatecar fail with "forbidden".');
    await stack.applyRbac();
    await prometheus.firing(
      'reviews succeed',
      names => !hasErrorAlert(names) && !OUTAGE.some(name => names.includes(name)),
    );
  });

  t.test('every query of every panel returns data with the labels of its legend', async t => {
    const end = Date.now() / 1000;
    for (const { title, targets = [] } of panels()) {
      for (const { expr, legendFormat } of targets) {
        const query = queryOf(expr);
        const series = await prometheus.queryRange(query, begin, end);
        const numbers = series.flatMap(({ values }) => values.map(([, value]) => Number(value)));
        t.ok(
          numbers.some(number => Number.isFinite(number)),
          `${title}: ${query}`,
        );
        for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
          t.ok(
            series.some(({ metric }) => metric[label] !== undefined),
            `${title}: ${label}`,
          );
        }
      }
    }
  });
});

function assertDescribed(t: Test, { labels, annotations }: ActiveAlert): void {
  t.match(labels, { namespace: 'gatecar', job: 'gatecar' });
  t.match(annotations['runbook_url'], `${RUNBOOK_ADDRESS}#`);
  t.match(annotations['description'], 'gatecar/gatecar');
  t.notMatch(annotations['description'], /<|\{\{|no value/i, 'every placeholder is filled in');
}
