import { EventEmitter, once } from 'node:events';
import { type DestinationStream, type Logger as PinoLogger, pino, stdTimeFunctions } from 'pino';
import { redact as redactToken } from '../credential/redaction.ts';

export interface Logger extends PinoLogger {
  /** How many lines of this process were dropped because nobody read its standard output. */
  readonly droppedLines: () => number;
  /** Resolves once all of it has been written: never, where nobody reads standard output. */
  readonly written: () => Promise<void>;
}

/**
 * Three dot-separated base64url parts, or whatever follows `Bearer`: what must not be in a log whoever wrote it. A part is
 * tried from its beginning alone, or a long one would take the square of its length.
 */
const LOOKS_LIKE_A_TOKEN =
  /(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*|(?<=bearer )[^\s"',]+/gi;

/** How much may wait for a standard output that is slow or stuck, in bytes; lines past it are dropped. */
const MAX_BACKLOG_BYTES = 4 * 1024 * 1024;

/** One JSON object a line, to standard output or `destination`. */
export function logger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: { name: 'gatecar' },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: describeError },
  };
  let dropped = 0;
  const output = destination ?? pino.destination({ dest: 1, sync: false, maxLength: MAX_BACKLOG_BYTES });
  if (output instanceof EventEmitter) {
    output.on('drop', () => {
      dropped += 1;
    });
  }
  return Object.assign(pino(options, output), {
    droppedLines: () => dropped,
    written: async () => (output instanceof EventEmitter ? drained(output) : undefined),
  });
}

/** What is on its way to the kernel is lost where the process ends before it is there. */
async function drained(output: DestinationStream & EventEmitter): Promise<void> {
  const drain = once(output, 'drain');
  // Behind all the rest, so that there is an end to hear of though nothing is under way.
  output.write('');
  await drain;
}

/**
 * An error as it may be logged. Errors quote what they failed on (a JSON parser, its input), so whatever looks like a
 * token is cut out, and properties other than the code are left behind.
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
