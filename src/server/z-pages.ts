import { effectiveSettings } from '../config/effective-settings.ts';
import type { Config } from '../config/schema.ts';
import { redact } from '../credential/redaction.ts';
import type { Health } from './health.ts';

/** Pages for a person who looks into a process, in the form of Kubernetes' z-pages. */
export interface ZPages {
  /** Version, start time and state. */
  statusz(): string;
  /** The settings in force, without secrets. */
  flagz(): string;
}

export interface ZPagesOptions {
  readonly config: Config;
  readonly health: Pick<Health, 'ready' | 'apiServerUp'>;
  readonly version: string;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
  /** Milliseconds since the process started. */
  readonly uptimeMs?: () => number;
}

/** Kubernetes' own sentence. */
const WARNING =
  'Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and ' +
  'is for debugging purposes only.';

const PATHS = ['/flagz', '/livez', '/metrics', '/readyz', '/statusz'];

/**
 * Creates the pages, as Kubernetes' components serve them (KEP-4827, KEP-4828): a line with the
 * component, a warning, and after an empty line one line for each value.
 */
export function zPages(options: ZPagesOptions): ZPages {
  const { config, health, version, wallClock = Date.now, uptimeMs = () => performance.now() } = options;
  const settings = effectiveSettings(config)
    .map(([flag, text]) => `${flag}=${withoutTokens(text)}`)
    .sort();
  const flags = page('gatecar flags', settings);
  return {
    flagz: () => flags,
    statusz: () =>
      page('gatecar statusz', [
        `Started: ${unixDate(wallClock() - uptimeMs())}`,
        `Up: ${uptime(uptimeMs())}`,
        `Node.js version: ${process.version}`,
        `Binary version: ${version}`,
        `Mode: ${config.mode}`,
        `Ready: ${health.ready}`,
        `API server reachable: ${config.mode === 'format-only' ? 'not used' : health.apiServerUp}`,
        `Paths: ${PATHS.join(' ')}`,
      ]),
  };
}

function page(title: string, lines: readonly string[]): string {
  return [title, WARNING, '', ...lines, ''].join('\n');
}

/** A user may have put a token in the place of another value, alone or in a list. */
function withoutTokens(text: string): string {
  return text.split(',').map(redact).join(',');
}

/** Formats a time as Go's `time.UnixDate` does, in UTC: `Wed Oct 16 21:03:43 UTC 2024`. */
function unixDate(ms: number): string {
  const [weekday = '', day = '', month = '', year = '', time = ''] = new Date(ms).toUTCString().split(/,? /);
  return `${weekday} ${month} ${String(Number(day)).padStart(2)} ${time} UTC ${year}`;
}

function uptime(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const two = (value: number): string => String(value % 60).padStart(2, '0');
  return `${Math.floor(seconds / 3600)} hr ${two(Math.floor(seconds / 60))} min ${two(seconds)} sec`;
}
