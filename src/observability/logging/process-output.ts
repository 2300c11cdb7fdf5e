import { LOG_MAX_BACKLOG_BYTES } from '../../limits/constants.ts';
import { LineOutput } from './line-output.ts';
import { isRetried, type Sink, standardStream } from './standard-stream.ts';

/** Standard output of this process, for text that is written directly. */
export const STANDARD_OUTPUT: Sink = standardStream(1, () => process.stdout);

/** Standard error of this process. A line that cannot be written there is lost. */
export const ERROR_LINES = new LineOutput({ sink: standardStream(2, () => process.stderr) });

/**
 * Lines of log and audit. The process has one such output, so that its backlog is bounded in total.
 */
export const LOG_LINES = new LineOutput({ sink: STANDARD_OUTPUT, onFailure: reportFailure });

/** Reports the failure on standard error, once for the process. */
function reportFailure(code: string): void {
  const kept = isRetried({ code })
    ? `; up to ${LOG_MAX_BACKLOG_BYTES / 1024 / 1024} MiB of lines wait until it works`
    : '';
  ERROR_LINES.write(
    `gatecar: standard output failed: ${code}; lost lines are counted in gatecar_log_lines_dropped_total${kept}\n`,
  );
}
