// Draws docs/dashboard.svg: the panels of the dashboard, with data that a real Prometheus collects
// in a run of three minutes against a real API server. It needs the tools of the end-to-end tests.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { floodWithInvalidTokens, startLoad } from '../../test/e2e/fixtures/support/load.ts';
import type { Prometheus } from '../../test/e2e/fixtures/support/prometheus.ts';
import { startMonitoredStack } from '../../test/e2e/fixtures/support/prometheus-stack.ts';
import { queryOf } from '../../test/fixtures/dashboard.ts';
import { layout, type PlacedPanel } from './dashboard.ts';
import { type DrawnPanel, picture } from './picture.ts';

const FILE = join(import.meta.dirname, '../../docs/dashboard.svg');
const STEP_SECONDS = 2;

t.setTimeout(600_000);

t.test('the dashboard is drawn', async t => {
  const watched = await startMonitoredStack(t, {
    GATECAR_ALLOWED_NAMESPACES: 'apps',
    GATECAR_CACHE_TTL: '5s',
    GATECAR_REVIEW_TIMEOUT: '1s',
    GATECAR_CACHE_STALE_IF_ERROR: '20s',
    GATECAR_LOG_LEVEL: 'info',
  });
  await startLoad(t, watched);
  await sleep(10_000);
  const begin = Date.now() / 1000;
  await sleep(30_000);
  await floodWithInvalidTokens(watched, 25_000);
  await sleep(15_000);
  await watched.api.pause();
  await sleep(35_000);
  watched.api.resume();
  await sleep(25_000);
  await watched.api.request('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gatecar-tokenreview');
  await sleep(15_000);
  await watched.applyRbac();
  await sleep(35_000);
  const end = Date.now() / 1000;
  const drawn = await Promise.all(layout().map(panel => read(watched.prometheus, panel, begin, end)));
  await mkdir(join(FILE, '..'), { recursive: true });
  await writeFile(FILE, picture(drawn, end - begin, STEP_SECONDS));
});

async function read(prometheus: Prometheus, placed: PlacedPanel, begin: number, end: number): Promise<DrawnPanel> {
  const { title, gridPos, panel } = placed;
  if (panel === undefined) return { title, gridPos, unit: '', kind: 'heading' };
  const answers = await Promise.all(
    panel.queries.map(async ({ expr, legend }) =>
      (await prometheus.queryRange(queryOf(expr), begin, end, STEP_SECONDS)).map(({ metric, values }) => ({
        name: panel.number && !legend.includes('{{') ? '' : named(legend, metric),
        points: values
          .map(([time, value]) => [Math.round(time - begin), Number(value)] as const)
          .filter(([, value]) => Number.isFinite(value)),
      })),
    ),
  );
  return {
    ...{ title, gridPos, unit: panel.unit, kind: panel.number ? 'number' : 'curves', series: answers.flat() },
    ...(panel.stacked && { stacked: true }),
    ...(panel.words && { words: panel.words }),
    ...(panel.number && { steps: panel.number }),
  };
}

function named(legend: string, labels: Readonly<Record<string, string>>): string {
  return legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '');
}
