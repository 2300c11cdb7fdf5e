import type { Goal, Row } from './scenario.ts';
import { median } from './statistics.ts';

/** A row and its scenario. */
export interface TableRow extends Row {
  readonly scenario: string;
}

/** Returns a Markdown table. Without any goal, it has no columns for goals. */
export function table(rows: readonly TableRow[]): string {
  const lines = rows.map(row => {
    const { scenario, what, by, values, ratios, goal } = row;
    const [min, middle, max] = [Math.min(...values), median(values), Math.max(...values)].map(figure);
    const ratio = ratios ? figure(median(ratios)) : '';
    return [scenario, what, by, min, middle, max, ratio, goal ? goalText(goal) : '', goal ? metText(row) : ''];
  });
  const head = ['scenario', 'measured', 'of', 'min', 'median', 'max', 'ratio', 'goal', 'met'];
  const rule = head.map((_, at) => (at < 3 ? '---' : '--:'));
  return [head, rule, ...lines].map(cells => `| ${cells.join(' | ')} |\n`).join('');
}

/** Whether the median meets its goal; `undefined` without a goal. */
export function meets({ ratios = [], values, goal }: Pick<Row, 'ratios' | 'values' | 'goal'>): boolean | undefined {
  if (goal === undefined) return undefined;
  const found = median(goal.of === 'ratio' ? ratios : values);
  return goal.bound === '≥' ? found >= goal.limit : found <= goal.limit;
}

/** Formats a number with three digits, because more would be noise. */
export function figure(value: number): string {
  return new Intl.NumberFormat('en', { maximumSignificantDigits: 3 }).format(value);
}

/** Formats a goal: `≤ 1.3 ×`; the sign marks a ratio. */
export function goalText({ of, bound, limit }: Goal): string {
  return `${bound} ${figure(limit)}${of === 'ratio' ? ' ×' : ''}`;
}

function metText(row: Pick<Row, 'ratios' | 'values' | 'goal'>): string {
  return meets(row) ? 'yes' : 'no';
}
