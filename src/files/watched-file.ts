import { readFile, stat } from 'node:fs/promises';
import { FILE_CHECK_EVERY_MS } from '../limits/constants.ts';

export interface WatchedFile {
  /**
   * Returns the file's bytes and reads them again if the file has changed. Returns the same object
   * until the content changes. If the file becomes unreadable, its last content is kept: Kubernetes
   * swaps mounted files by symlink, and the file may be missing for a moment.
   *
   * @throws the file system's error if the file has never been readable.
   */
  read(): Promise<Buffer>;
  /** Whether the next {@link read} accesses the disk. If not, it returns the same content. */
  readonly isDue: boolean;
  /**
   * The file system's error at the last check, which kept the old content; `undefined` if it
   * succeeded.
   */
  readonly failure: unknown;
  /** Makes the next {@link read} read the file again, even if it looks unchanged. */
  drop(): void;
}

/**
 * Follows a file without a watcher. Reads cause at most one `stat` per `checkEveryMs`. Device and
 * inode are compared too, since size and time may be equal after the kubelet swaps a symlink.
 */
export function watchedFile(
  path: string,
  now: () => number = () => performance.now(),
  checkEveryMs = FILE_CHECK_EVERY_MS,
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
          // The kubelet swaps all files of a volume if one changes. Unchanged content keeps its
          // object.
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
