// Records the data of docs/dashboard.svg: the panels of the dashboard, as a real Prometheus answers
// their queries after a run of three minutes against a real API server. It needs the tools of the
// end-to-end tests. `npm run generate` draws the picture from these data.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { floodWithInvalidTokens, startLoad } from '../../test/e2e/fixtures/support/load.ts';
import type { Prometheus } from '../../test/e2e/fixtures/support/prometheus.ts';
import { startMonitoredStack } from '../../test/e2e/fixtures/support/prometheus-stack.ts';
import { queryOf } from '../../test/fixtures/dashboard.ts';
import { layout, type PlacedPanel } from './dashboard.ts';
import type { DrawnPanel, RecordedRun } from './picture.ts';

const FILE = join(import.meta.dirname, 'recorded.json');
const STEP_SECONDS = 2;

t.setTimeout(600_000);

t.test('the data of the dashboard are recorded', async t => {
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
  const panels = await Promise.all(layout().map(panel => read(watched.prometheus, panel, begin, end)));
  const recorded: RecordedRun = { seconds: Math.round(end - begin), stepSeconds: STEP_SECONDS, panels };
  await writeFile(FILE, `${JSON.stringify(recorded)}\n`);
});

async function read(prometheus: Prometheus, placed: PlacedPanel, begin: number, end: number): Promise<DrawnPanel> {
  const { title, panel } = placed;
  if (panel === undefined) return { title, unit: '', kind: 'heading' };
  const answers = await Promise.all(
    panel.queries.map(async ({ expr, legend }) =>
      (await prometheus.queryRange(queryOf(expr), begin, end, STEP_SECONDS)).map(({ metric, values }) => ({
        name: panel.number && !legend.includes('{{') ? '' : named(legend, metric),
        points: values
          .map(([time, value]) => [Math.round(time - begin), Number(Number(value).toPrecision(4))] as const)
          .filter(([, value]) => Number.isFinite(value)),
      })),
    ),
  );
  return {
    title,
    unit: panel.unit,
    kind: panel.number ? 'number' : 'curves',
    series: answers.flat(),
    ...(panel.stacked && { stacked: true }),
    ...(panel.words && { words: panel.words }),
    ...(panel.number && { steps: panel.number }),
  };
}

function named(legend: string, labels: Readonly<Record<string, string>>): string {
  return legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label) => labels[label] ?? '');
}
