import t, { type Test } from 'tap';
import { RUNBOOK_ADDRESS } from '../fixtures/alert-rules.ts';
import { panels, queryOf } from '../fixtures/dashboard.ts';
import { gatewayMissing } from './fixtures/support/gateway-binaries.ts';
import { kubeApiServerMissing, startLimitMs } from './fixtures/support/kube-apiserver.ts';
import { startTraffic } from './fixtures/support/load.ts';
import { skipWithout } from './fixtures/support/missing-tools.ts';
import type { ActiveAlert } from './fixtures/support/prometheus.ts';
import { startWatched } from './fixtures/support/prometheus-stack.ts';
import { until } from './fixtures/support/until.ts';

// A real Prometheus scrapes the running process as examples/prometheus says and judges by the rules that are shipped; a minute of
// theirs takes a second here.

const missing =
  kubeApiServerMissing() ?? gatewayMissing('prometheus') ?? gatewayMissing('helm') ?? gatewayMissing('kubectl');

/** Alerts that an outage is about. */
const OUTAGE = ['GatecarAPIServerUnreachable', 'GatecarServingStale', 'GatecarUnavailable'];

t.setTimeout(startLimitMs + 120_000);

t.test('Prometheus', { skip: skipWithout(missing) }, async t => {
  const begin = Date.now() / 1000;
  const watched = await startWatched(t, {
    GATECAR_ALLOWED_NAMESPACES: 'apps',
    GATECAR_CACHE_TTL: '2s',
    GATECAR_REVIEW_TIMEOUT: '500ms',
    GATECAR_CACHE_STALE_IF_ERROR: '5m',
  });
  const { api, gatecar, prometheus } = watched;

  t.test('finds the ops listener and no other port, and knows namespace and pod', async t => {
    const [target, ...more] = await until('it has scraped', async () => {
      const targets = await prometheus.targets();
      return targets.every(({ health }) => health === 'up') && targets.length > 0 && targets;
    });
    t.strictSame(more, []);
    t.equal(target?.scrapeUrl, `${gatecar.ops}/metrics`);
    t.match(target?.labels, { job: 'gatecar', namespace: 'gatecar', pod: 'pod' });
  });

  const traffic = await startTraffic(t, watched);

  t.test('while tokens are known, fresh and junk, nothing critical fires', async t => {
    // Before the first scrape there was none, for long enough.
    await prometheus.firing('nothing', names => !names.includes('GatecarAbsent'));
    const calm = Date.now() / 1000;
    const lasted = await until('it has been calm for a while', async () => {
      const now = Date.now() / 1000;
      const [series] = await prometheus.queryRange('gatecar_apiserver_up == 1', calm, now);
      return (series?.values.length ?? 0) > 10 && now;
    });
    const critical = 'ALERTS{severity="critical", alertstate="firing"}';
    t.strictSame(await prometheus.queryRange(critical, calm, lasted), []);
    t.ok(traffic.answers(200) > 0 && traffic.answers(401) > 0);
    t.equal(traffic.answers(503), 0);
  });

  t.test(
    'the API server hangs: its alerts fire, with words and a way to the runbook; it is back: they are over',
    async t => {
      t.teardown(() => api.resume());
      await api.pause();
      const firing = await prometheus.firing('an outage', names => OUTAGE.every(name => names.includes(name)));
      for (const alert of firing.filter(({ labels }) => OUTAGE.includes(labels['alertname'] ?? ''))) isTold(t, alert);
      t.ok(traffic.answers(503) > 0);
      api.resume();
      await prometheus.firing('the outage is over', names => !OUTAGE.some(name => names.includes(name)));
    },
  );

  t.test('our right is taken: the alert says so; it is given back: it is over', async t => {
    t.teardown(() => watched.applyRbac());
    await api.request('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatecar-tokenreview');
    const isRefusal = (names: readonly string[]) => names.includes('GatecarTokenReviewErrors');
    const firing = await prometheus.firing('reviews are refused', isRefusal);
    const alert = firing.find(({ labels }) => labels['alertname'] === 'GatecarTokenReviewErrors');
    t.equal(alert?.labels['outcome'], 'forbidden');
    t.match(alert?.annotations['description'], 'TokenReviews of gatecar/gatecar fail with "forbidden".');
    await watched.applyRbac();
    await prometheus.firing(
      'reviews are answered',
      names => !isRefusal(names) && !OUTAGE.some(name => names.includes(name)),
    );
  });

  t.test('every query of every panel gives data, and its legend the names of it', async t => {
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

function isTold(t: Test, { labels, annotations }: ActiveAlert): void {
  t.match(labels, { namespace: 'gatecar', job: 'gatecar' });
  t.match(annotations['runbook_url'], `${RUNBOOK_ADDRESS}#`);
  t.match(annotations['description'], 'gatecar/gatecar');
  t.notMatch(annotations['description'], /<|\{\{|no value/i, 'all of it is filled in');
}
