import type { Config } from '../config/schema.ts';
import type { Logger } from '../observability/logging/logger.ts';
import type { Metrics, TlsReload } from '../observability/metrics.ts';
import type { ListenerTls, TlsMaterial } from './listener-options.ts';
import { type CheckedMaterial, checkMaterial, TlsFileError, type TlsPaths, tlsFiles } from './tls-files.ts';

/** How often the disk is asked whether the files are still the same, in milliseconds. */
const POLL_EVERY_MS = 1000;

export interface TlsReloader extends ListenerTls {
  /** When the certificate in force runs out, in seconds since 1970. */
  readonly notAfterSeconds: number;
  /** Looks at the files once; what has changed since is taken when it reads the same for two looks in a row. */
  look(): Promise<void>;
  /** Looks every second from now on. */
  start(): void;
  stop(): void;
}

export interface FollowedTlsOptions {
  readonly paths: TlsPaths;
  readonly log: Pick<Logger, 'info' | 'warn'>;
  readonly onReload: (outcome: TlsReload) => void;
  readonly now?: () => number;
  readonly pollEveryMs?: number;
}

/**
 * Certificate, key and client CA from files that are replaced under a running process. A file written in place is seen
 * half-written, and three files are not read at one moment, so a change counts only once it has been seen twice. What
 * then cannot be used is told once, and what was in force stays.
 *
 * @throws {TlsFileError} where the files cannot be used to begin with.
 */
export async function createTlsReloader(options: FollowedTlsOptions): Promise<TlsReloader> {
  const { paths, log, onReload, now = Date.now, pollEveryMs = POLL_EVERY_MS } = options;
  const files = tlsFiles(paths);
  let judged = await files.read();
  let inForce = checkMaterial(judged, paths);
  let seenOnce: TlsMaterial | undefined;
  let unreadable: { readonly problem: string; looks: number } | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const takers: ((material: TlsMaterial) => void)[] = [];
  if (hasRunOut(inForce, now)) log.warn({ notAfter: inForce.notAfter }, 'the certificate of the listeners has run out');

  const fail = (problem: string): void => {
    onReload('failure');
    log.warn({ problem }, 'new TLS files cannot be used; what was in force stays');
  };

  /** A file may be missing for a moment while it is replaced; one that stays so is told once. */
  const noteUnreadable = (problem: string | undefined): void => {
    if (problem !== unreadable?.problem) unreadable = problem === undefined ? undefined : { problem, looks: 0 };
    if (unreadable === undefined) return;
    unreadable.looks += 1;
    if (unreadable.looks === 2) fail(unreadable.problem);
  };

  const judge = (material: TlsMaterial): void => {
    try {
      const checked = checkMaterial(material, paths);
      if (hasRunOut(checked, now)) throw new TlsFileError('the new certificate has run out');
      inForce = checked;
    } catch (error) {
      fail((error as Error).message);
      return;
    }
    for (const take of takers) take(inForce);
    onReload('success');
    log.info({ notAfter: inForce.notAfter }, 'new TLS files are in force');
  };

  const look = async (): Promise<void> => {
    const seen = await files.read();
    noteUnreadable(files.problem);
    const isNew = !areSame(seen, judged);
    const isSettled = isNew && seenOnce !== undefined && areSame(seen, seenOnce);
    seenOnce = isNew && !isSettled ? seen : undefined;
    if (!isSettled) return;
    judged = seen;
    judge(seen);
  };
  const lookAgain = (): void => {
    if (!stopped) timer = setTimeout(() => look().then(lookAgain), pollEveryMs).unref();
  };

  return {
    get material() {
      return inForce;
    },
    get notAfterSeconds() {
      return inForce.notAfter.getTime() / 1000;
    },
    onReplaced: take => takers.push(take),
    look,
    start: lookAgain,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/**
 * {@link createTlsReloader} as the settings ask for it; `undefined` where the listeners are plain.
 *
 * @throws {TlsFileError} where the files cannot be used.
 */
export async function listenerTls(
  { tlsCertFile: certFile, tlsKeyFile: keyFile, tlsClientCaFile: clientCaFile }: Config,
  counters: Pick<Metrics, 'tlsReloaded' | 'observeCertificate'>,
  log: Logger,
): Promise<TlsReloader | undefined> {
  if (certFile === undefined || keyFile === undefined) return undefined;
  const tls = await createTlsReloader({
    paths: { certFile, keyFile, clientCaFile },
    log,
    onReload: counters.tlsReloaded,
  });
  counters.observeCertificate(() => tls.notAfterSeconds);
  return tls;
}

function hasRunOut({ notAfter }: CheckedMaterial, now: () => number): boolean {
  return notAfter.getTime() <= now();
}

function areSame(one: TlsMaterial, other: TlsMaterial): boolean {
  return one.cert === other.cert && one.key === other.key && one.clientCa === other.clientCa;
}
