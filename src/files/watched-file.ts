import { readFile, stat } from 'node:fs/promises';

/** How often, at the most, the disk is asked whether the file is still the same, in milliseconds. */
const CHECK_EVERY_MS = 1000;

export interface WatchedFile {
  /**
   * The file's bytes, read anew when it has changed; the same object for as long as it reads the same. Once read, a file
   * that cannot be read any more keeps its last content: Kubernetes swaps mounted files by symlink, and a moment without
   * one is no reason to fail.
   *
   * @throws the file system's error while it could never be read.
   */
  read(): Promise<Buffer>;
  /** Whether the next {@link read} asks the disk; until then it reads the same. */
  readonly isDue: boolean;
  /** The file system's error for which the last look at the disk left the old content; `undefined` where it could be read. */
  readonly failure: unknown;
  /** Makes the next {@link read} go to the disk whatever the file looks like. */
  drop(): void;
}

/**
 * Follows a file without a watcher: whoever reads causes at most one `stat` in `checkEveryMs`. Device and inode are compared too,
 * since the kubelet's swap of a symlink can leave size and time alike.
 */
export function watchedFile(
  path: string,
  now: () => number = () => performance.now(),
  checkEveryMs = CHECK_EVERY_MS,
): WatchedFile {
  let content: Buffer | undefined;
  let signature = '';
  let checkedAt = Number.NEGATIVE_INFINITY;
  let failure: unknown;

  const isDue = (): boolean => content === undefined || now() - checkedAt >= checkEveryMs;

  return {
    get isDue() {
      return isDue();
    },
    get failure() {
      return failure;
    },
    async read() {
      if (content !== undefined && !isDue()) return content;
      checkedAt = now();
      try {
        const { dev, ino, size, mtimeNs } = await stat(path, { bigint: true });
        const current = `${dev}:${ino}:${size}:${mtimeNs}`;
        if (content === undefined || current !== signature) {
          const fresh = await readFile(path);
          // The kubelet swaps all files of a volume when one of them has changed.
          if (content === undefined || !content.equals(fresh)) content = fresh;
          signature = current;
        }
        failure = undefined;
      } catch (error) {
        failure = error;
        if (content === undefined) throw error;
      }
      return content;
    },
    drop() {
      signature = '';
      checkedAt = Number.NEGATIVE_INFINITY;
    },
  };
}
