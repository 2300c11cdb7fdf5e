import { fstatSync, write } from 'node:fs';
import type { Writable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { LOG_BUSY_MS } from '../../limits/constants.ts';

/**
 * `written` is the number of bytes that the output took. Fewer than all bytes is not an error; 0
 * means that the output is busy.
 */
export type WriteDone = (error: NodeJS.ErrnoException | null | undefined, written?: number) => void;

/** An output that is written without blocking the event loop. */
export interface Sink {
  /** Writes once. Only one write may be in flight. */
  write(bytes: Buffer, done: WriteDone): void;
  /**
   * Whether a write in flight delays the exit of the process: it occupies a thread, and Node waits
   * for that thread.
   */
  readonly delaysExit: () => boolean;
}

/**
 * Errors after which the same bytes can still be written later. After any other error, the reader
 * has closed the output.
 */
const RETRIED: ReadonlySet<string | undefined> = new Set([
  'EBUSY',
  'EDQUOT',
  'EFBIG',
  'EINTR',
  'EIO',
  'ENOBUFS',
  'ENOMEM',
  'ENOSPC',
]);

/** Whether the bytes of a failed write are worth another attempt. */
export function isRetried({ code }: Pick<NodeJS.ErrnoException, 'code'>): boolean {
  return RETRIED.has(code);
}

/**
 * Makes a {@link Sink} of a file descriptor.
 *
 * Pipes and sockets are written through Node's own stream. It is asynchronous for these and sets
 * them non-blocking, so a stuck reader occupies no thread. That stream writes files and terminals
 * synchronously, so these go through the thread pool instead.
 *
 * @param stream Node's stream for this descriptor, opened on the first write.
 */
export function standardStream(fd: number, stream: () => Writable): Sink {
  let opened: Sink | undefined;
  return {
    write(bytes, done) {
      try {
        opened ??= open(fd, stream);
        opened.write(bytes, done);
      } catch (error) {
        done(error as NodeJS.ErrnoException);
      }
    },
    delaysExit: () => opened?.delaysExit() ?? false,
  };
}

function open(fd: number, stream: () => Writable): Sink {
  const kind = fstatSync(fd);
  if (!kind.isFIFO() && !kind.isSocket()) return fileSink(fd);
  // The callback of each write gets the error too. Without a listener the error would be an
  // uncaught exception.
  const target = stream().on('error', () => {});
  return {
    write: (bytes, done) => target.write(bytes, error => done(error, bytes.length)),
    delaysExit: () => false,
  };
}

/** Makes a {@link Sink} of a file, terminal or device. The thread pool writes it. */
export function fileSink(fd: number): Sink {
  return {
    write: (bytes, done) =>
      write(fd, bytes, (error, written) => {
        if (isBusy(error)) done(null, 0);
        else done(error, written);
      }),
    delaysExit: () => true,
  };
}

/** A terminal may be non-blocking, because another process that shares it can set that mode. */
function isBusy(error: NodeJS.ErrnoException | null): boolean {
  return error?.code === 'EAGAIN';
}

/** Reports that a text could not be written. Its message is the error's code. */
export class WriteError extends Error {
  override readonly name = 'WriteError';
  readonly code: string;

  constructor({ code = 'unknown error' }: NodeJS.ErrnoException) {
    super(code);
    this.code = code;
  }
}

/** Writes a whole text, and waits for a slow reader. @throws {WriteError} */
export async function writeWhole(sink: Sink, text: string): Promise<void> {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    const written = await writeOnce(sink, rest);
    rest = rest.subarray(written);
    if (written === 0) await wait(LOG_BUSY_MS);
  }
}

function writeOnce(sink: Sink, bytes: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    sink.write(bytes, (error, written = 0) => {
      if (error) reject(new WriteError(error));
      else resolve(written);
    });
  });
}
