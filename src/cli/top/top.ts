import { setTimeout as wait } from 'node:timers/promises';
import { readCommandLine } from '../../config/arguments.ts';
import { readConfig } from '../../config/load.ts';
import { type CommandContext, UsageError } from '../command.ts';
import { colorizer, marker, stripControl } from '../output.ts';
import { intervalOf, type Snapshot, startOf } from './interval.ts';
import { parseMetrics, valuesOf } from './metrics-text.ts';
import { pageOf } from './page.ts';
import { type MetricsTarget, scrape, targetOfAddress, targetOfUrl } from './scrape.ts';

const REFRESH_MS = 1_000;

/** Rates are averages over this time, so that a page is not a matter of chance. */
const WINDOW_MS = 10_000;

const CLEAR_SCREEN = '\u001b[2J';
const TO_TOP = '\u001b[H';
const CLEAR_LINE_END = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

/**
 * Runs `gatecar top`: prints a page about a running gatecar every second, until a signal ends the
 * process.
 *
 * @param sleep waits this many milliseconds.
 * @returns the exit code: 0 with `--once`, 1 if the metrics cannot be read at first.
 * @throws {UsageError | ConfigError}
 */
export async function topCommand(context: CommandContext, sleep: (ms: number) => Promise<unknown> = wait) {
  const { terminal, env, wallClock = Date.now } = context;
  const { target, once } = optionsOf(context);
  const shown = { address: target.shown, paint: colorizer(terminal, env), mark: marker(terminal, env) };
  let history: Snapshot[] = [];
  let pages = 0;
  do {
    const read = await snapshotOf(target, wallClock);
    if ('samples' in read) history = withSnapshot(history, read);
    const cause = 'problem' in read ? stripControl(read.problem) : undefined;
    const latest = history.at(-1);
    if (latest === undefined) {
      terminal.complain(`gatecar: cannot read ${target.shown}/metrics: ${cause}\n`);
      return 1;
    }
    const interval = intervalOf(latest, history.length > 1 ? history[0] : undefined);
    const problem = cause === undefined ? undefined : `cannot read /metrics: ${cause}`;
    const page = pageOf(interval, { ...shown, nowMs: wallClock(), problem });
    if (once) await terminal.writeNow(page);
    else {
      await terminal.writeNow(terminal.isTerminal ? redrawn(page, pages) : `${page}\n`);
      await sleep(REFRESH_MS);
    }
    pages += 1;
  } while (!once);
  return 0;
}

interface TopOptions {
  readonly target: MetricsTarget;
  readonly once: boolean;
}

function optionsOf({ args, env }: CommandContext): TopOptions {
  const { own, operands, settings } = readCommandLine(args, ['url', 'once']);
  if (operands.length > 0 || (own.get('once') ?? 'true') !== 'true') {
    throw new UsageError('top takes --url, --once and settings: gatecar top --help');
  }
  const config = readConfig(settings, env);
  const target = own.has('url') ? targetOfUrl(own.get('url')) : targetOfAddress(config.opsListen);
  return { target, once: own.has('once') };
}

async function snapshotOf(target: MetricsTarget, wallClock: () => number): Promise<Snapshot | { problem: string }> {
  try {
    const samples = parseMetrics(await scrape(target));
    if (valuesOf(samples, 'gatecar_build_info', 'version').length === 0) return { problem: 'no metrics of gatecar' };
    return { atMs: wallClock(), samples };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

/** Adds a snapshot. Drops those outside of the window, and those of an earlier process. */
function withSnapshot(history: readonly Snapshot[], latest: Snapshot): Snapshot[] {
  const isRecent = (one: Snapshot): boolean => latest.atMs - one.atMs <= WINDOW_MS && startOf(one) === startOf(latest);
  return [...history.filter(isRecent), latest];
}

/** Redraws a page in place, without the flicker of a cleared screen. */
function redrawn(page: string, pages: number): string {
  const start = pages === 0 ? CLEAR_SCREEN + TO_TOP : TO_TOP;
  return `${start}${page.replaceAll('\n', `${CLEAR_LINE_END}\n`)}${CLEAR_BELOW}`;
}
