import { type DestinationStream, type Logger as PinoLogger, pino, stdTimeFunctions } from 'pino';
import { redact as redactToken } from '../../credential/redaction.ts';
import { LineOutput } from './line-output.ts';
import { LOG_LINES } from './process-output.ts';

export interface Logger extends PinoLogger {
  /** Number of lines that could not be written. */
  readonly droppedLines: () => number;
  /** Number of failed attempts to write lines. */
  readonly failedWrites: () => number;
}

/**
 * Matches three dot-separated base64url parts, or the value after `Bearer`. Such text must not be
 * logged, whatever its source. A part matches only from its start; otherwise a long part would take
 * quadratic time.
 */
const LOOKS_LIKE_A_TOKEN =
  /(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*|(?<=bearer )[^\s"',]+/gi;

/** Creates a logger that writes one JSON object per line to standard output or `destination`. */
export function logger(level: string, destination: DestinationStream | LineOutput = LOG_LINES): Logger {
  const options = {
    level,
    base: { name: 'gatecar' },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: describeError },
  };
  const log = pino(options, destination);
  if (!(destination instanceof LineOutput)) return Object.assign(log, { droppedLines: none, failedWrites: none });
  destination.reportGaps(lost => log.warn({ lost }, 'log output failed or was too slow'));
  return Object.assign(log, {
    droppedLines: () => destination.droppedLines,
    failedWrites: () => destination.failedWrites,
  });
}

const none = (): number => 0;

/**
 * Describes an error for the log. Error messages quote their input (a JSON parser does), so text
 * that looks like a token is removed. Additional properties are dropped, except the code.
 */
export function describeError(error: unknown): Record<string, string> {
  if (!(error instanceof Error)) return { message: redact(String(error)) };
  const { code } = error as { code?: unknown };
  return {
    type: error.name,
    ...(typeof code === 'string' && { code }),
    message: redact(error.message),
    ...(error.stack !== undefined && { stack: redact(error.stack) }),
  };
}

function redact(text: string): string {
  return redactToken(text.replace(LOOKS_LIKE_A_TOKEN, '[token]'));
}
