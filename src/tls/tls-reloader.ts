import type { Config } from '../config/schema.ts';
import { TLS_FILES_POLL_EVERY_MS } from '../limits/constants.ts';
import type { TlsReload } from '../observability/counters.ts';
import type { Logger } from '../observability/logging/logger.ts';
import type { Metrics } from '../observability/metrics.ts';
import { repeat } from '../system/repeat.ts';
import type { ListenerTls, TlsMaterial } from './listener-options.ts';
import { type CheckedMaterial, checkMaterial, TlsFileError, type TlsPaths, tlsFiles } from './tls-files.ts';

export interface TlsReloader extends ListenerTls {
  /** When the active certificate expires, in seconds since 1970. */
  readonly notAfterSeconds: number;
  /**
   * Reads the files once. New content becomes active if two consecutive reads return the same
   * content.
   */
  poll(): Promise<void>;
  /** Starts to read the files periodically. */
  start(): void;
  stop(): void;
}

export interface TlsReloaderOptions {
  readonly paths: TlsPaths;
  readonly log: Pick<Logger, 'info' | 'warn'>;
  readonly onReload: (outcome: TlsReload) => void;
  readonly now?: () => number;
  readonly pollEveryMs?: number;
}

/**
 * Loads certificate, key and client CA from files that are replaced while the process runs. A file
 * that is written in place may be read half-written, and the three files are not read at one
 * moment. A change therefore counts only after it has been read twice. If the new files cannot be
 * used, this is reported once and the previous material stays active.
 *
 * @throws {TlsFileError} if the initial files cannot be used.
 */
export async function createTlsReloader(options: TlsReloaderOptions): Promise<TlsReloader> {
  const { paths, log, onReload, now = Date.now, pollEveryMs = TLS_FILES_POLL_EVERY_MS } = options;
  const files = tlsFiles(paths);
  let lastValidated = await files.read();
  let current = checkMaterial(lastValidated, paths);
  let stopPolling = (): void => {};
  const listeners: ((material: TlsMaterial) => void)[] = [];
  if (isExpired(current, now)) log.warn({ notAfter: current.notAfter }, 'listener certificate has expired');

  const fail = (problem: string): void => {
    onReload('failure');
    log.warn({ problem }, 'TLS reload failed; keeping the current certificate');
  };

  const validateAndApply = (material: TlsMaterial): void => {
    try {
      const checked = checkMaterial(material, paths);
      if (isExpired(checked, now)) throw new TlsFileError('the new certificate has expired');
      current = checked;
    } catch (error) {
      fail((error as Error).message);
      return;
    }
    for (const listener of listeners) listener(current);
    onReload('success');
    log.info({ notAfter: current.notAfter }, 'TLS certificate reloaded');
  };

  const noteUnreadable = reportIfLasting(fail);
  const isSettled = secondRead();
  const poll = async (): Promise<void> => {
    const material = await files.read();
    noteUnreadable(files.problem);
    if (!isSettled(material, lastValidated)) return;
    lastValidated = material;
    validateAndApply(material);
  };

  return {
    get material() {
      return current;
    },
    get notAfterSeconds() {
      return current.notAfter.getTime() / 1000;
    },
    onReplaced: listener => listeners.push(listener),
    poll,
    start() {
      stopPolling = repeat(pollEveryMs, poll);
    },
    stop: () => stopPolling(),
  };
}

/**
 * Creates the TLS reloader that the settings require; `undefined` if the listeners use plain text.
 *
 * @throws {TlsFileError} if the files cannot be used.
 */
export async function listenerTls(
  { tlsCertFile: certFile, tlsKeyFile: keyFile, tlsClientCaFile: clientCaFile }: Config,
  counters: Pick<Metrics, 'recordTlsReload' | 'observeCertificate'>,
  log: Logger,
): Promise<TlsReloader | undefined> {
  if (certFile === undefined || keyFile === undefined) return undefined;
  const tls = await createTlsReloader({
    paths: { certFile, keyFile, clientCaFile },
    log,
    onReload: counters.recordTlsReload,
  });
  counters.observeCertificate(() => tls.notAfterSeconds);
  return tls;
}

/**
 * Reports a file that stays unreadable, once. A file may be missing for a moment while it is
 * replaced.
 */
function reportIfLasting(report: (problem: string) => void): (problem: string | undefined) => void {
  let unreadable: { readonly problem: string; looks: number } | undefined;
  return problem => {
    if (problem !== unreadable?.problem) unreadable = problem === undefined ? undefined : { problem, looks: 0 };
    if (unreadable === undefined) return;
    unreadable.looks += 1;
    if (unreadable.looks === 2) report(unreadable.problem);
  };
}

/** Returns a check whether new material was read twice in a row, so no file is half-written. */
function secondRead(): (seen: TlsMaterial, lastValidated: TlsMaterial) => boolean {
  let seenOnce: TlsMaterial | undefined;
  return (seen, lastValidated) => {
    const isNew = !areSame(seen, lastValidated);
    const isSettled = isNew && seenOnce !== undefined && areSame(seen, seenOnce);
    seenOnce = isNew && !isSettled ? seen : undefined;
    return isSettled;
  };
}

function isExpired({ notAfter }: CheckedMaterial, now: () => number): boolean {
  return notAfter.getTime() <= now();
}

function areSame(one: TlsMaterial, other: TlsMaterial): boolean {
  return one.cert === other.cert && one.key === other.key && one.clientCa === other.clientCa;
}
