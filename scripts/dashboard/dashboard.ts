import { type DashboardPanel, type Query, ROWS } from './rows.ts';

const DATASOURCE = { type: 'prometheus', uid: '$datasource' };
const WIDTH = 24;
const NUMBER_HEIGHT = 4;
const CURVE_HEIGHT = 8;

/**
 * Returns the dashboard as Grafana JSON for any Prometheus. Grafana 11 and later read its schema
 * version, 39.
 */
export function dashboard(): Record<string, unknown> {
  return {
    title: 'gatecar',
    uid: 'gatecar',
    description: 'Decisions of gatecar and their reasons, and the state of its reviews, cache and process.',
    tags: ['gatecar', 'authentication'],
    schemaVersion: 39,
    version: 1,
    editable: true,
    graphTooltip: 1,
    time: { from: 'now-1h', to: 'now' },
    timezone: 'browser',
    refresh: '30s',
    annotations: { list: [] },
    templating: { list: [datasource(), ...variables()] },
    panels: panels(),
  };
}

function datasource(): Record<string, unknown> {
  return { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', refresh: 1 };
}

/**
 * Returns the dashboard's variables; each one filters those after it. "All" includes targets
 * without the label, such as targets outside a cluster.
 */
function variables(): Record<string, unknown>[] {
  return ['namespace', 'job', 'instance'].map((name, place, all) => {
    const chosen = all.slice(0, place).map(one => `${one}=~"$${one}"`);
    const query = `label_values(gatecar_build_info{${chosen.join(', ')}}, ${name})`;
    return {
      name,
      label: name.replace(/^./, first => first.toUpperCase()),
      type: 'query',
      datasource: DATASOURCE,
      query: { query, refId: 'variable' },
      refresh: 2,
      sort: 1,
      includeAll: true,
      multi: true,
      allValue: '.*',
      current: { text: ['All'], value: ['$__all'] },
    };
  });
}

/**
 * A panel and its position, or the heading of a row, which has no panel. Positions are in cells, 24
 * to a row.
 */
export interface PlacedPanel {
  readonly title: string;
  readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>;
  readonly panel?: DashboardPanel;
}

/** Computes all positions: numbers next to each other, curves three to a line. */
export function layout(): PlacedPanel[] {
  const list: PlacedPanel[] = [];
  let y = 0;
  for (const row of ROWS) {
    list.push({ title: row.title, gridPos: { h: 1, w: WIDTH, x: 0, y } });
    y += 1;
    const numbers = row.panels.every(({ number }) => number !== undefined);
    const [columns, h] = numbers ? [row.panels.length, NUMBER_HEIGHT] : [3, CURVE_HEIGHT];
    const w = WIDTH / columns;
    for (const [place, panel] of row.panels.entries()) {
      const gridPos = { h, w, x: (place % columns) * w, y: y + Math.floor(place / columns) * h };
      list.push({ title: panel.title, gridPos, panel });
    }
    y += Math.ceil(row.panels.length / columns) * h;
  }
  return list;
}

function panels(): Record<string, unknown>[] {
  return layout().map(({ title, gridPos, panel }, place) => ({
    id: place + 1,
    ...(panel ? (panel.number ? number(panel) : curves(panel)) : { type: 'row', title, collapsed: false, panels: [] }),
    gridPos,
  }));
}

function common({ title, description, queries }: DashboardPanel, instant: boolean): Record<string, unknown> {
  return {
    title,
    description,
    datasource: DATASOURCE,
    targets: queries.map((query, place) => target(query, place, instant)),
  };
}

function target({ expr, legend }: Query, place: number, instant: boolean): Record<string, unknown> {
  const refId = String.fromCharCode('A'.charCodeAt(0) + place);
  return { refId, datasource: DATASOURCE, expr, legendFormat: legend, instant, range: !instant };
}

function number(panel: DashboardPanel): Record<string, unknown> {
  const steps = (panel.number ?? []).map(([from, color], place) => ({ color, value: place === 0 ? null : from }));
  const options = Object.fromEntries(Object.entries(panel.words ?? {}).map(([value, text]) => [value, { text }]));
  return {
    type: 'stat',
    ...common(panel, true),
    fieldConfig: {
      defaults: {
        unit: panel.unit,
        thresholds: { mode: 'absolute', steps },
        mappings: panel.words ? [{ type: 'value', options }] : [],
      },
      overrides: [],
    },
    options: {
      colorMode: 'background',
      graphMode: 'none',
      justifyMode: 'auto',
      textMode: 'auto',
      wideLayout: true,
      showPercentChange: false,
      percentChangeColorMode: 'standard',
      orientation: 'auto',
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
  };
}

function curves(panel: DashboardPanel): Record<string, unknown> {
  const stacking = { mode: panel.stacked ? 'normal' : 'none', group: 'A' };
  return {
    type: 'timeseries',
    ...common(panel, false),
    fieldConfig: {
      defaults: {
        unit: panel.unit,
        min: 0,
        custom: { drawStyle: 'line', lineWidth: 1, fillOpacity: panel.stacked ? 40 : 5, showPoints: 'never', stacking },
      },
      overrides: [],
    },
    options: {
      legend: { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
  };
}
